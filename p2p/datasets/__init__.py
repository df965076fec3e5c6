"""Datasets known to a cluster: what belongs to one, how a copy is checked, what it contains."""
