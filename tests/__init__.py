"""Tests; see CONTRIBUTING.md for how they are grouped."""
