"""Recurrent layers and cells: PyTorch's from the same weights, and what a user relies on."""

from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F
from tinynn import nn, optim, state
from tinynn.backend import Backend

LAYERS = {
    "RNN": {"nonlinearity": "tanh"},
    "RNN relu": {"nonlinearity": "relu"},
    "LSTM": {},
    "GRU": {},
}
every_layer = pytest.mark.parametrize("kind", LAYERS)
every_cell = pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])


def layer(kind: str, *sizes: int, **options: Any) -> Any:
    make = getattr(nn, kind.split()[0])
    return make(*sizes, **LAYERS[kind], **options, generator=np.random.default_rng(0))


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def flat(states: Any) -> list[Any]:
    """h, or h and c, as a list."""
    return list(states) if isinstance(states, tuple) else [states]


@every_layer
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_shapes(kind: str, batch_first: bool, bidirectional: bool, backend: Backend) -> None:
    options = {"batch_first": batch_first, "bidirectional": bidirectional}
    net, ways = layer(kind, 3, 4, 2, **options), 1 + bidirectional
    output, last = net(tn.Tensor(normal(5, 2, 3)))
    assert output.shape == (5, 2, 4 * ways)
    samples = 5 if batch_first else 2
    assert [h.shape for h in flat(last)] == [(2 * ways, samples, 4)] * len(flat(last))


@every_layer
def test_the_last_state_continues_a_sequence(kind: str) -> None:
    net, x = layer(kind, 3, 4, 2), normal(6, 2, 3)
    whole, end = net(tn.Tensor(x))
    first, middle = net(tn.Tensor(x[:4]))
    second, last = net(tn.Tensor(x[4:]), middle)
    parts = np.concatenate([first.numpy(), second.numpy()])
    np.testing.assert_allclose(parts, whole.numpy(), atol=1e-6)
    for a, b in zip(flat(last), flat(end)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


@every_cell
def test_a_cell_is_one_step_of_its_layer(kind: str) -> None:
    net, x = layer(kind, 3, 4), normal(5, 2, 3)
    cell = getattr(nn, f"{kind}Cell")(3, 4)
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in net.state_dict().items()})
    hx = None
    outputs = []
    for step in x:
        hx = cell(tn.Tensor(step), hx)
        outputs.append(flat(hx)[0].numpy())
    np.testing.assert_allclose(outputs, net(tn.Tensor(x))[0].numpy(), atol=1e-6)


def test_the_way_back_reads_the_sequence_from_its_end() -> None:
    both, x = layer("RNN", 3, 4, bidirectional=True), normal(5, 2, 3)
    one = nn.RNN(3, 4)
    own = both.state_dict()
    one.load_state_dict({name: own[f"{name}_reverse"] for name in one.state_dict()})
    forwards = both(tn.Tensor(x))[0].numpy()
    backwards = one(tn.Tensor(x[::-1].copy()))[0].numpy()[::-1]
    np.testing.assert_allclose(forwards[..., 4:], backwards, atol=1e-6)


def test_dropout_acts_between_layers_in_training_only() -> None:
    x = tn.Tensor(normal(5, 2, 3))
    net = layer("RNN", 3, 4, 2, dropout=0.5)
    first, second = (net(x)[0].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    quiet = layer("RNN", 3, 4, 2)
    quiet.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(net.eval()(x)[0].numpy(), quiet(x)[0].numpy())
    one = layer("RNN", 3, 4, dropout=0.5)  # of one layer there is no between
    np.testing.assert_array_equal(one(x)[0].numpy(), one.eval()(x)[0].numpy())


@every_layer
def test_what_was_said_first_is_remembered(kind: str) -> None:
    """The sign of the first of 6 steps is learnt from the last state: gradient crosses them all."""
    net, head = layer(kind, 1, 8), nn.Linear(8, 2, generator=np.random.default_rng(1))
    model = nn.ModuleList([net, head])
    optimizer = optim.Adam(model.parameters(), lr=2e-2)
    x = normal(6, 64, 1)
    labels = (x[0, :, 0] > 0).astype(int)
    for _ in range(150):
        _, last = net(tn.Tensor(x))
        loss = F.cross_entropy(head(flat(last)[0][0]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: nn.RNN(3, 4)(normal(5, 2, 4)), ["RNN:", "(T, N, 3)", "(5, 2, 4)"]),
        (lambda: nn.GRU(3, 4, batch_first=True)(normal(5, 3)), ["GRU:", "(N, T, 3)", "(5, 3)"]),
        (lambda: nn.GRU(3, 4)(normal(5, 2, 3), normal(2, 4)), ["hx", "(2, 4)", "(1, 2, 4)"]),
        (lambda: nn.LSTM(3, 4)(normal(5, 2, 3), [normal(1, 2, 4)]), ["LSTM: hx", "2 of (1, 2, 4)"]),
        (lambda: nn.RNNCell(3, 4)(normal(5, 2)), ["RNNCell:", "(N, 3)", "(5, 2)"]),
        (lambda: nn.RNN(3, 0), ["RNN:", "hidden_size", "0"]),
        (lambda: nn.RNN(3, 4, dropout=2), ["RNN:", "probability", "2"]),
        (lambda: nn.RNN(3, 4, nonlinearity="sigmoid")(normal(5, 2, 3)), ["'relu'", "'sigmoid'"]),
        (lambda: nn.RNN(3, 4)(normal(0, 2, 3)), ["rnn:", "T > 0", "(0, 2, 3)"]),
        (
            lambda: F.gru(normal(5, 2, 3), normal(2, 4), normal(8, 3), normal(8, 4)),
            ["gru:", "(3 H, H)", "(8, 3)", "(8, 4)"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, parts: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the parts say what it matches
        make()
    assert [part for part in parts if part not in str(error.value)] == []


# -- against PyTorch -----------------------------------------------------------------------------


@pytest.mark.torch
@every_layer
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"num_layers": 3, "bias": False},
    ],
    ids=str,
)
def test_a_layer_is_pytorchs(kind: str, options: dict[str, Any], backend: Backend) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind.split()[0])(3, 4, **LAYERS[kind], **options)
    ours = layer(kind, 3, 4, **options)
    assert list(state.to_torch(ours)) == list(theirs.state_dict())
    state.from_torch(ours, theirs.state_dict())
    x = normal(5, 2, 3)
    initial = [normal(*h.shape, seed=i) for i, h in enumerate(flat(ours(tn.Tensor(x))[1]))]
    pack = tuple if len(initial) > 1 else (lambda states: states[0])
    inputs = [tn.Tensor(a, requires_grad=True) for a in (x, *initial)]
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, *initial)]
    output, last = ours(inputs[0], pack(inputs[1:]))
    expected, end = theirs(tensors[0], pack(tensors[1:]))
    for a, b in zip([output, *flat(last)], [expected, *flat(end)], strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), atol=1e-5)
    weights = normal(*output.shape, seed=9)
    loss = (output * weights).sum()
    total = (expected * torch.tensor(weights)).sum()
    for a, b in zip(flat(last), flat(end)):
        loss, total = loss + (a * a).sum(), total + (b * b).sum()
    loss.backward()
    total.backward()
    mine = [*inputs, *ours.parameters()]
    for a, b in zip(mine, [*tensors, *theirs.parameters()], strict=True):
        np.testing.assert_allclose(backend.to_numpy(a.grad), b.grad.numpy(), atol=1e-4)


@pytest.mark.torch
@every_cell
def test_a_cell_is_pytorchs(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, f"{kind}Cell")(3, 4)
    ours = getattr(nn, f"{kind}Cell")(3, 4)
    state.from_torch(ours, theirs.state_dict())
    x = normal(2, 3)
    for a, b in zip(flat(ours(tn.Tensor(x))), flat(theirs(torch.tensor(x)))):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), atol=1e-6)
