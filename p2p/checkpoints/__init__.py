"""Checkpoints as files: names, copies, what a peer holds, and what plain PyTorch reads."""
