"""What is asked to be served, and what people are shown of it."""
