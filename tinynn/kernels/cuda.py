"""The cupy backend's drop-ins: CUDA kernels that replace the reference's, gathered in a table."""

from __future__ import annotations

from typing import Any

from tinynn.kernels import (
    cuda_activation,
    cuda_conv,
    cuda_images,
    cuda_norm,
    cuda_optim,
    cuda_pool,
    cuda_random,
    cuda_rows,
    cuda_softmax,
)

KERNELS: dict[str, Any] = {
    "conv2d": cuda_conv.conv2d,
    "conv2d_input_grad": cuda_conv.conv2d_input_grad,
    "conv2d_weight_grad": cuda_conv.conv2d_weight_grad,
    "matmul": cuda_conv.matmul,
    "column_sum": cuda_norm.column_sum,
    "max_pool2d": cuda_pool.max_pool2d,
    "max_pool2d_grad": cuda_pool.max_pool2d_grad,
    "avg_pool2d": cuda_pool.avg_pool2d,
    "avg_pool2d_grad": cuda_pool.avg_pool2d_grad,
    "global_avg_pool2d": cuda_pool.global_avg_pool2d,
    "global_avg_pool2d_grad": cuda_pool.global_avg_pool2d_grad,
    "batch_norm": cuda_norm.batch_norm,
    "batch_norm_grad": cuda_norm.batch_norm_grad,
    "batch_norm_inference": cuda_norm.batch_norm_inference,
    "batch_norm_inference_grad": cuda_norm.batch_norm_inference_grad,
    "layer_norm": cuda_rows.layer_norm,
    "layer_norm_grad": cuda_rows.layer_norm_grad,
    "softmax": cuda_rows.softmax,
    "softmax_grad": cuda_rows.softmax_grad,
    "log_softmax": cuda_rows.log_softmax,
    "log_softmax_grad": cuda_rows.log_softmax_grad,
    "relu_grad": cuda_activation.relu_grad,
    "sigmoid": cuda_activation.sigmoid,
    "sigmoid_grad": cuda_activation.sigmoid_grad,
    "tanh_grad": cuda_activation.tanh_grad,
    "silu": cuda_activation.silu,
    "silu_grad": cuda_activation.silu_grad,
    "gelu": cuda_activation.gelu,
    "gelu_grad": cuda_activation.gelu_grad,
    "random_bits": cuda_random.random_bits,
    "dropout": cuda_activation.dropout,
    "label_cross_entropy": cuda_softmax.label_cross_entropy,
    "label_cross_entropy_grad": cuda_softmax.label_cross_entropy_grad,
    "gather_images": cuda_images.gather_images,
    "update_sgd": cuda_optim.update_sgd,
    "update_adam": cuda_optim.update_adam,
    "update_rmsprop": cuda_optim.update_rmsprop,
    "update_adagrad": cuda_optim.update_adagrad,
    "update_adadelta": cuda_optim.update_adadelta,
}
