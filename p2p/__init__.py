"""The peer: everything that turns agreement and collectives into a running cluster."""
