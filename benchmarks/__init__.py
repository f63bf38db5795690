"""tinynn beside PyTorch, in one run: `python -m benchmarks.step`."""
