"""Demonstrations as data: what is done to a small cluster, why, and what must hold afterwards."""
