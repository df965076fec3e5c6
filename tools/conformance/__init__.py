"""PyTorch's own distributed test suite, from the installed wheel, run against a backend."""
