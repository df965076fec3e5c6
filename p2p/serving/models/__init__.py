"""What a replica computes: the only part of serving that imports torch."""
