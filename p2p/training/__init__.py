"""The trainer: a child process that computes and exchanges gradients for one job."""
