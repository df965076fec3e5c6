"""The state every peer agrees on: what it holds, how commands change it, how it becomes bytes."""
