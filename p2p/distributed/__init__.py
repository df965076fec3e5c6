"""The torch.distributed backend: a process group over the data plane, and mail beside it."""
