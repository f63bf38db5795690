"""The cupy backend's drop-ins: CUDA kernels that replace the reference's, gathered in a table.

A process uses one device, and one stream at a time: sums over rows count, in memory that all their
launches share, the blocks that are done.
"""

from __future__ import annotations

from typing import Any

from tinynn.kernels import (
    cuda_activation,
    cuda_conv,
    cuda_ctc,
    cuda_images,
    cuda_norm,
    cuda_optim,
    cuda_pool,
    cuda_random,
    cuda_resize,
    cuda_rnn,
    cuda_rows,
    cuda_softmax,
    reference,
)

KERNELS: dict[str, Any] = {
    "conv2d": cuda_conv.conv2d,
    "conv2d_batch_norm": cuda_norm.conv2d_batch_norm,
    "conv2d_input_grad": cuda_conv.conv2d_input_grad,
    "conv2d_weight_grad": cuda_conv.conv2d_weight_grad,
    "matmul": cuda_conv.matmul,
    "linear": cuda_conv.linear,
    "linear_grad": reference.linear_grad_of(
        cuda_activation.relu_grad, cuda_conv.matmul, cuda_norm.column_sum
    ),
    "column_sum": cuda_norm.column_sum,
    "max_pool2d": cuda_pool.max_pool2d,
    "max_pool2d_grad": cuda_pool.max_pool2d_grad,
    "avg_pool2d": cuda_pool.avg_pool2d,
    "avg_pool2d_grad": cuda_pool.avg_pool2d_grad,
    "global_avg_pool2d": cuda_pool.global_avg_pool2d,
    "global_avg_pool2d_grad": cuda_pool.global_avg_pool2d_grad,
    "mul_grad": cuda_pool.mul_grad,
    "batch_norm": cuda_norm.batch_norm,
    "update_running_statistics": cuda_norm.update_running_statistics,
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
    "cross_entropy": cuda_softmax.cross_entropy,
    "cross_entropy_grad": cuda_softmax.cross_entropy_grad,
    "label_cross_entropy": cuda_softmax.label_cross_entropy,
    "label_cross_entropy_grad": cuda_softmax.label_cross_entropy_grad,
    "mean_over_labels": cuda_softmax.mean_over_labels,
    "ctc_loss": cuda_ctc.ctc_loss,
    "ctc_loss_grad": cuda_ctc.ctc_loss_grad,
    "rnn": cuda_rnn.rnn,
    "rnn_grad": cuda_rnn.rnn_grad,
    "lstm": cuda_rnn.lstm,
    "lstm_grad": cuda_rnn.lstm_grad,
    "gru": cuda_rnn.gru,
    "gru_grad": cuda_rnn.gru_grad,
    "interpolate": cuda_resize.interpolate,
    "gather_images": cuda_images.gather_images,
    "update_sgd": cuda_optim.update_sgd,
    "update_adam": cuda_optim.update_adam,
    "update_rmsprop": cuda_optim.update_rmsprop,
    "update_adagrad": cuda_optim.update_adagrad,
    "update_adadelta": cuda_optim.update_adadelta,
    "update_average": cuda_optim.update_average,
}
