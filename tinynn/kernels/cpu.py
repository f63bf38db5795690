"""The numpy backend's drop-ins: numba kernels that replace the reference's, gathered in a table."""

from __future__ import annotations

from typing import Any

from tinynn.kernels import (
    cpu_activation,
    cpu_arithmetic,
    cpu_bias,
    cpu_conv,
    cpu_ctc,
    cpu_layer_norm,
    cpu_linear,
    cpu_matmul,
    cpu_norm,
    cpu_optim,
    cpu_pool,
    cpu_softmax,
)
from tinynn.kernels.threads import take_threads_from_blas

KERNELS: dict[str, Any] = {
    "conv2d": cpu_conv.conv2d,
    "conv2d_batch_norm": cpu_conv.conv2d_batch_norm,
    "conv2d_input_grad": cpu_conv.conv2d_input_grad,
    "conv2d_weight_grad": cpu_conv.conv2d_weight_grad,
    "matmul": cpu_matmul.matmul,
    "linear": cpu_linear.linear,
    "add": cpu_arithmetic.add,
    "add_bias": cpu_bias.add_bias,
    "column_sum": cpu_bias.column_sum,
    "relu_bias_grad": cpu_bias.relu_bias_grad,
    "mul": cpu_arithmetic.mul,
    "mul_grad": cpu_arithmetic.mul_grad,
    "max_pool2d": cpu_pool.max_pool2d,
    "max_pool2d_grad": cpu_pool.max_pool2d_grad,
    "avg_pool2d": cpu_pool.avg_pool2d,
    "avg_pool2d_grad": cpu_pool.avg_pool2d_grad,
    "global_avg_pool2d": cpu_pool.global_avg_pool2d,
    "global_avg_pool2d_grad": cpu_pool.global_avg_pool2d_grad,
    "batch_norm": cpu_norm.batch_norm,
    "batch_norm_grad": cpu_norm.batch_norm_grad,
    "batch_norm_inference": cpu_norm.batch_norm_inference,
    "batch_norm_inference_grad": cpu_norm.batch_norm_inference_grad,
    "layer_norm": cpu_layer_norm.layer_norm,
    "layer_norm_grad": cpu_layer_norm.layer_norm_grad,
    "relu": cpu_activation.relu,
    "relu_grad": cpu_activation.relu_grad,
    "sigmoid": cpu_activation.sigmoid,
    "sigmoid_grad": cpu_activation.sigmoid_grad,
    "tanh": cpu_activation.tanh,
    "tanh_grad": cpu_activation.tanh_grad,
    "silu": cpu_activation.silu,
    "silu_grad": cpu_activation.silu_grad,
    "gelu": cpu_activation.gelu,
    "gelu_grad": cpu_activation.gelu_grad,
    "dropout": cpu_activation.dropout,
    "softmax": cpu_softmax.softmax,
    "softmax_grad": cpu_softmax.softmax_grad,
    "log_softmax": cpu_softmax.log_softmax,
    "log_softmax_grad": cpu_softmax.log_softmax_grad,
    "label_cross_entropy": cpu_softmax.label_cross_entropy,
    "label_cross_entropy_grad": cpu_softmax.label_cross_entropy_grad,
    "ctc_loss": cpu_ctc.ctc_loss,
    "ctc_loss_grad": cpu_ctc.ctc_loss_grad,
    "update_sgd": cpu_optim.update_sgd,
    "update_adam": cpu_optim.update_adam,
    "update_rmsprop": cpu_optim.update_rmsprop,
    "update_adagrad": cpu_optim.update_adagrad,
    "update_adadelta": cpu_optim.update_adadelta,
}

take_threads_from_blas()
