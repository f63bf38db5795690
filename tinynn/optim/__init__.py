"""Optimisers over flat storage, schedules, gradient clipping and averages of weights."""

from tinynn.optim.algorithms import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop
from tinynn.optim.clip import clip_grad_norm_
from tinynn.optim.ema import EMA
from tinynn.optim.optimizer import Optimizer
from tinynn.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    OneCycleLR,
    Schedule,
    StepLR,
)
