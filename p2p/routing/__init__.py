"""Prompts on their way: from a client to a replica that answers, and the answer back."""
