"""Time and memory of an update: on this machine, compared with PyTorch, as sizes grow."""
