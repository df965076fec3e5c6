"""Files addressed by the SHA-256 of their bytes, and how they travel between peers."""
