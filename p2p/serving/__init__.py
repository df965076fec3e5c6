"""Serving a trained model: the replica, a child of a peer, and what the two say to each other."""
