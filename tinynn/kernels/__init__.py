"""Kernels compute on arrays and know nothing of gradients graphs. Start with `reference`."""
