"""Modules: layers that own parameters, and the containers that hold them."""

from tinynn.nn import init
from tinynn.nn.blocks import BasicBlock
from tinynn.nn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    CrossEntropyLoss,
    DropConnect,
    Dropout,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    LogSoftmax,
    MaxPool2d,
    MSELoss,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from tinynn.nn.module import Buffer, Module, ModuleList, Parameter, Sequential
