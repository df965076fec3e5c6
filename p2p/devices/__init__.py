"""Tensors in another device's memory: their way to the host's, where ranks exchange, and back."""
