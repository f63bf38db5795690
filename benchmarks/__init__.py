"""tinynn measured: beside PyTorch, beside other NumPy engines, and beside what the machine can do.

    python -m benchmarks.step         a training or inference step of each work
    python -m benchmarks.kernels      each kernel; `--explain` shows which algorithm runs and why
    python -m benchmarks.scaling      how the time grows with threads, batch, width and depth
    python -m benchmarks.peers        other engines written in NumPy
    python -m benchmarks.end_to_end   a whole training run, from start to printed accuracy; a start

Read `compare.py` first (how engines take turns), then `step.py`.
"""
