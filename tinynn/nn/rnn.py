"""Recurrent layers and cells. PyTorch's names, arguments and equations; steps first: (T, N, C)."""

from __future__ import annotations

import math
from typing import Any

from tinynn import functional as F
from tinynn.backend import current_backend
from tinynn.functions.dropout import check_probability
from tinynn.functions.math import as_tensor
from tinynn.nn import init
from tinynn.nn.init import Generator
from tinynn.nn.layers import check_positive, new_parameter
from tinynn.nn.module import Module, Parameter
from tinynn.tensor import Tensor

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Recurrent(Module):
    """What all have in common: how the weights are made, and the step from sequence to states.

    `gates`: blocks of H rows in a weight. `states`: arrays that go from step to step.
    """

    gates: int
    states = 1

    def make_weights(
        self, inputs: int, hidden: int, bias: bool, suffix: str, generator: Generator
    ) -> None:
        """Assign the four parameters under their names, drawn from U(+-1/sqrt(hidden))."""
        rows, bound = self.gates * hidden, 1 / math.sqrt(hidden)
        shapes = (rows, inputs), (rows, hidden), (rows,), (rows,)
        for name, shape in zip(WEIGHTS, shapes):
            used = bias or len(shape) == 2
            parameter = new_parameter(shape) if used else None
            if parameter is not None:
                init.uniform_(parameter, -bound, bound, generator)
            setattr(self, name + suffix, parameter)

    def weights(self, suffix: str = "") -> list[Parameter | None]:
        """weight_ih, weight_hh, bias_ih and bias_hh of one layer and direction."""
        return [getattr(self, name + suffix) for name in WEIGHTS]

    def run(self, x: Tensor, hx: list[Tensor], weights: list[Any]) -> list[Tensor]:
        """Every state after each step, (T, N, H): h, and c if there is one."""
        raise NotImplementedError

    def unpack(self, hx: Any, shape: tuple[int, ...], dtype: Any) -> list[Tensor]:
        """The initial states as a list: those given, or zeros. ValueError for another shape."""
        if hx is None:
            return [Tensor(current_backend().xp.zeros(shape, dtype)) for _ in range(self.states)]
        given = list(hx) if self.states > 1 else [hx]
        shapes = [tuple(state.shape) for state in given]
        if shapes != [shape] * self.states:
            raise ValueError(
                f"{type(self).__name__}: hx has shapes {shapes}, expected {self.states} of {shape}"
            )
        return given


class RNNRecurrence(Recurrent):
    """h[t] = tanh or relu of W_ih x[t] + b_ih + W_hh h[t-1] + b_hh."""

    gates = 1
    nonlinearity: str

    def run(self, x: Tensor, hx: list[Tensor], weights: list[Any]) -> list[Tensor]:
        return [F.rnn(x, *hx, *weights, nonlinearity=self.nonlinearity)]


class LSTMRecurrence(Recurrent):
    """Long short-term memory; the states are h and c, the gates i, f, g, o."""

    gates, states = 4, 2

    def run(self, x: Tensor, hx: list[Tensor], weights: list[Any]) -> list[Tensor]:
        return list(F.lstm(x, (hx[0], hx[1]), *weights))


class GRURecurrence(Recurrent):
    """The gated recurrent unit; the gates are r, z, n."""

    gates = 3

    def run(self, x: Tensor, hx: list[Tensor], weights: list[Any]) -> list[Tensor]:
        return [F.gru(x, *hx, *weights)]


class RNNBase(Recurrent):
    """`num_layers` recurrent layers, each running forwards, or both ways.

    (T, N, input_size), or (N, T, input_size) with `batch_first` -> the last layer's h of every
    step, forwards and backwards side by side, (T, N, D H) or (N, T, D H) with D = 1 or 2; and the
    last state of every layer and direction, (layers D, N, H), which is also the shape of `hx`,
    the initial states (default: zeros). `dropout` acts between the layers, in training.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        generator: Generator = None,
    ):
        name = type(self).__name__
        check_positive(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_probability(name, dropout)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.generator = batch_first, dropout, generator
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            inputs = hidden_size * len(self.directions) if layer else input_size
            for direction in self.directions:
                self.make_weights(inputs, hidden_size, bias, f"_l{layer}{direction}", generator)

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Any]:
        x = as_tensor(input)
        if x.ndim != 3 or x.shape[2] != self.input_size:
            axes = "N, T" if self.batch_first else "T, N"
            name = type(self).__name__
            raise ValueError(f"{name}: input must be ({axes}, {self.input_size}), not {x.shape}")
        x = F.transpose(x, 0, 1) if self.batch_first else x
        runs = self.num_layers * len(self.directions)
        initial = self.unpack(hx, (runs, x.shape[1], self.hidden_size), x.dtype)
        last: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training, generator=self.generator)
            ways = []
            for direction in self.directions:
                steps = slice(None, None, -1) if direction else slice(None)
                begin = [F.getitem(state, len(last)) for state in initial]
                weights = self.weights(f"_l{layer}{direction}")
                states = self.run(x[steps] if direction else x, begin, weights)
                last.append([state[-1] for state in states])
                ways.append(states[0][steps] if direction else states[0])
            x = F.cat(ways, 2) if len(ways) > 1 else ways[0]
        final = [F.stack(states) for states in zip(*last)]
        output = F.transpose(x, 0, 1) if self.batch_first else x
        return output, tuple(final) if self.states > 1 else final[0]

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"]
        parts += ["batch_first=True"] if self.batch_first else []
        parts += ["bidirectional=True"] if len(self.directions) > 1 else []
        return ", ".join(parts)


class RNNCellBase(Recurrent):
    """One step: input (N, input_size) and hx, the state (N, H) (default: zeros) -> the next."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, generator: Generator = None
    ):
        check_positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.make_weights(input_size, hidden_size, bias, "", generator)

    def forward(self, input: Any, hx: Any = None) -> Any:
        x = as_tensor(input)
        if x.ndim != 2 or x.shape[1] != self.input_size:
            name = type(self).__name__
            raise ValueError(f"{name}: input must be (N, {self.input_size}), not {x.shape}")
        initial = self.unpack(hx, (len(x), self.hidden_size), x.dtype)
        states = [s[0] for s in self.run(F.reshape(x, (1, *x.shape)), initial, self.weights())]
        return tuple(states) if self.states > 1 else states[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNN(RNNRecurrence, RNNBase):
    """h[t] = tanh(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh), or relu; see `RNNBase`.

    -> every h of the last layer, and the last h of every layer. Source: Elman 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        generator: Generator = None,
    ):
        options: tuple[Any, ...] = num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(input_size, hidden_size, *options, generator=generator)
        self.nonlinearity = nonlinearity


class LSTM(LSTMRecurrence, RNNBase):
    """Long short-term memory; see `RNNBase` and, for its equations, `functional.lstm`.

    hx is a pair (h, c). -> every h of the last layer, and the last (h, c) of every layer.
    """


class GRU(GRURecurrence, RNNBase):
    """Gated recurrent units; see `RNNBase` and, for their equations, `functional.gru`.

    -> every h of the last layer, and the last h of every layer.
    """


class RNNCell(RNNRecurrence, RNNCellBase):
    """One step of `RNN`: tanh(W_ih x + b_ih + W_hh h + b_hh), or relu; see `RNNCellBase`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        generator: Generator = None,
    ):
        super().__init__(input_size, hidden_size, bias, generator=generator)
        self.nonlinearity = nonlinearity


class LSTMCell(LSTMRecurrence, RNNCellBase):
    """One step of `LSTM`, from (h, c) to (h, c); see `RNNCellBase`."""


class GRUCell(GRURecurrence, RNNCellBase):
    """One step of `GRU`; see `RNNCellBase`."""
