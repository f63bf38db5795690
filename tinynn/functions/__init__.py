"""Functions: each operation as a graph node (a class) and the lower-case wrapper users call.

A wrapper checks shapes once and raises with the fix; its class saves arrays and differentiates;
the numbers come from the kernels of the current backend.
"""
