"""How the trainers of one generation turn their shards' gradients into one next state."""
