"""The parts of `python -m tools.bench serve`."""
