"""Training jobs on real peers in a storm; then: the same bits, every sample once, nothing left?"""
