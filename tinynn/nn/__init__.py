"""Modules: layers that own parameters, and the containers that hold them."""

from tinynn.nn import init
from tinynn.nn.blocks import (
    BasicBlock,
    Bottleneck,
    Conv2dNormActivation,
    MBConv,
    ResidualBlock,
    SqueezeExcitation,
)
from tinynn.nn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    CrossEntropyLoss,
    CTCLoss,
    Dropout,
    Flatten,
    Identity,
    Linear,
    LogSoftmax,
    MaxPool2d,
    MSELoss,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    StochasticDepth,
    Tanh,
)
from tinynn.nn.module import Buffer, Module, ModuleList, Parameter, Sequential
from tinynn.nn.norm import BatchNorm1d, BatchNorm2d, LayerNorm, conv_norm
from tinynn.nn.rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNBase, RNNCell
