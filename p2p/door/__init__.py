"""The OpenAI-compatible HTTP door of a peer: a child process, and a client like any other."""
