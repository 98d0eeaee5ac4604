"""Time and memory of an update: on this machine, beside PyTorch, as sizes grow."""
