"""Many peers: fifty real ones on this machine, a thousand simulated ones."""
