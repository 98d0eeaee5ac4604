"""The same steps in plain PyTorch, written as the published code does them, to compare with.

No part of it is that code: a Python loop over classes or student steps, `create_graph=True`,
eager operations, PyTorch's own layers and initialisation. It needs PyTorch (`jdd[bench]`), and is
imported by nothing but the benchmark.
"""
