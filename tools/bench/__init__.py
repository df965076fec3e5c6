"""Benchmarks: python -m tools.bench NAME. Reported side by side with a rival, never asserted."""
