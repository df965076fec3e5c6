"""What we compare with: the same work by other means."""
