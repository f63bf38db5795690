"""The numpy backend's drop-ins: numba kernels that replace the reference's, gathered in a table."""

from __future__ import annotations

from typing import Any

from tinynn.kernels import cpu_conv, cpu_norm, cpu_optim, cpu_pool
from tinynn.kernels.threads import apply_num_threads

KERNELS: dict[str, Any] = {
    "conv2d": cpu_conv.conv2d,
    "conv2d_input_grad": cpu_conv.conv2d_input_grad,
    "conv2d_weight_grad": cpu_conv.conv2d_weight_grad,
    "matmul": cpu_conv.matmul,
    "batch_norm": cpu_norm.batch_norm,
    "batch_norm_grad": cpu_norm.batch_norm_grad,
    "batch_norm_inference": cpu_norm.batch_norm_inference,
    "max_pool2d": cpu_pool.max_pool2d,
    "max_pool2d_grad": cpu_pool.max_pool2d_grad,
    "update_sgd": cpu_optim.update_sgd,
    "update_adam": cpu_optim.update_adam,
}

apply_num_threads()
