"""What the leader decides from the state and what it hears: commands, each with its reason."""
