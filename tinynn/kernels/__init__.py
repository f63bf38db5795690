"""Kernels compute on arrays and know nothing of gradients or graphs. Start with `reference`."""
