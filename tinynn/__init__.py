"""tinynn: a neural-network engine in plain array code, with fast drop-in kernels.

    import tinynn as tn
    from tinynn import functional as F, nn, optim

Read `tinynn/kernels/reference.py` first, then `autograd.py`.
"""

from tinynn import functional, nn, optim, state
from tinynn.autograd import enable_grad, is_grad_enabled, no_grad
from tinynn.backend import Backend, backend_names, current_backend, get_backend, use_backend
from tinynn.capture import capture
from tinynn.functional import cat, exp, log, matmul, stack, where
from tinynn.kernels.precision import get_float32_matmul_precision, set_float32_matmul_precision
from tinynn.kernels.threads import get_num_threads, set_num_threads
from tinynn.random import default_generator, manual_seed
from tinynn.tensor import Tensor

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "Tensor",
    "backend_names",
    "capture",
    "cat",
    "current_backend",
    "default_generator",
    "enable_grad",
    "exp",
    "functional",
    "get_backend",
    "get_float32_matmul_precision",
    "get_num_threads",
    "is_grad_enabled",
    "log",
    "manual_seed",
    "matmul",
    "nn",
    "no_grad",
    "optim",
    "set_float32_matmul_precision",
    "set_num_threads",
    "stack",
    "state",
    "use_backend",
    "where",
]
