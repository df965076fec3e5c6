"""Real processes, real clients and real faults; then: was every promise kept?"""
