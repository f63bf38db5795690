"""The functional interface: `import tinynn.functional as F`. PyTorch's names, NHWC images."""

from tinynn.functions.activation import gelu, log_softmax, relu, sigmoid, silu, softmax, tanh
from tinynn.functions.conv import conv2d
from tinynn.functions.ctc import ctc_loss
from tinynn.functions.dropout import dropout, stochastic_depth
from tinynn.functions.linear import linear, matmul
from tinynn.functions.loss import (
    cross_entropy,
    hinge_loss,
    mse_loss,
    multi_margin_loss,
    nll_loss,
)
from tinynn.functions.math import (
    abs,
    add,
    astype,
    clamp,
    clip,
    div,
    exp,
    log,
    mul,
    neg,
    pow,
    sqrt,
    sub,
    where,
)
from tinynn.functions.norm import batch_norm, conv2d_batch_norm, layer_norm
from tinynn.functions.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from tinynn.functions.reduce import amax, argmax, max, mean, sum, var
from tinynn.functions.resize import interpolate
from tinynn.functions.rnn import gru, lstm, rnn
from tinynn.functions.shape import (
    cat,
    flatten,
    getitem,
    pad,
    permute,
    reshape,
    stack,
    take_along_dim,
    transpose,
)
