"""Modules: what is walked and in which order, state, modes, and the layers' own behaviour."""

from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import nn
from tinynn.backend import Backend


class Net(nn.Module):
    """Two layers, a buffer, and things that are none."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(1, 2, 3, generator=np.random.default_rng(0))
        self.count = nn.Buffer(np.array(3))
        self.norm = nn.BatchNorm2d(2)
        self.scale = nn.Parameter(np.ones(2, "float32"))
        self.head: nn.Module | None = None
        self.not_walked = [nn.Linear(1, 1)]
        self.constant = tn.Tensor([1.0])

    def forward(self, x: Any) -> tn.Tensor:
        return self.norm(self.conv(x)) * self.scale


NAMES = [
    "count",
    "scale",
    "conv.weight",
    "conv.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
]


# -- walking -------------------------------------------------------------------------------------


def test_attributes_are_walked_in_the_order_of_definition() -> None:
    net = Net()
    assert [name for name, _ in net.named_children()] == ["conv", "norm"]
    assert [name for name, _ in net.named_modules()] == ["", "conv", "norm"]
    assert [name for name, _ in net.named_tensors()] == NAMES
    assert [name for name, _ in net.named_parameters()] == [*NAMES[1:6]]
    assert [name for name, _ in net.named_buffers()] == ["count", *NAMES[6:]]
    assert next(net.parameters()) is net.scale
    assert next(net.buffers()) is net.count


def test_a_module_assigned_later_is_walked_where_its_attribute_stands() -> None:
    net = Net()
    net.head = nn.Linear(2, 1)
    assert [name for name, _ in net.named_children()] == ["conv", "norm", "head"]


def test_names_are_dotted_through_containers() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(1, 1)), nn.ModuleList([nn.LayerNorm(1)]))
    names = [name for name, _ in net.named_parameters()]
    assert names == ["0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias"]


def test_a_basic_block_has_the_names_of_torchvision() -> None:
    block = nn.Sequential(nn.BasicBlock(2, 4, 2))
    names = [name for name, _ in block.named_parameters()]
    assert names == [
        "0.conv1.weight",
        "0.bn1.weight",
        "0.bn1.bias",
        "0.conv2.weight",
        "0.bn2.weight",
        "0.bn2.bias",
        "0.downsample.0.weight",
        "0.downsample.1.weight",
        "0.downsample.1.bias",
    ]


def test_a_bottleneck_has_the_names_of_torchvision() -> None:
    block = nn.Bottleneck(4, 2, 2)
    shapes = {name: p.shape for name, p in block.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (2, 1, 1, 4),
        "bn1.weight": (2,),
        "conv2.weight": (2, 3, 3, 2),
        "bn2.weight": (2,),
        "conv3.weight": (8, 1, 1, 2),
        "bn3.weight": (8,),
        "downsample.0.weight": (8, 1, 1, 4),
        "downsample.1.weight": (8,),
    }
    assert nn.Bottleneck(8, 2).downsample is None  # the shortcut is x itself


def test_a_plain_block_has_no_shortcut() -> None:
    block = nn.BasicBlock(2, 2, shortcut=False).eval()
    nn.init.zeros_(block.bn2.weight)
    x = tn.Tensor(np.ones((1, 4, 4, 2), "float32"))
    assert not block(x).numpy().any()
    assert nn.BasicBlock(2, 4, 2, shortcut=False).downsample is None
    bottleneck = nn.Bottleneck(8, 2, shortcut=False).eval()
    nn.init.zeros_(bottleneck.bn3.weight)
    assert not bottleneck(tn.Tensor(np.ones((1, 4, 4, 8), "float32"))).numpy().any()


def test_an_mbconv_has_the_names_of_torchvision() -> None:
    names = [name for name, _ in nn.MBConv(4, 6, 3, expand_ratio=6).named_parameters()]
    assert names == [
        "block.0.0.weight",
        "block.0.1.weight",
        "block.0.1.bias",
        "block.1.0.weight",
        "block.1.1.weight",
        "block.1.1.bias",
        "block.2.fc1.weight",
        "block.2.fc1.bias",
        "block.2.fc2.weight",
        "block.2.fc2.bias",
        "block.3.0.weight",
        "block.3.1.weight",
        "block.3.1.bias",
    ]


def test_a_dropped_mbconv_leaves_its_shortcut(backend: Backend) -> None:
    block = nn.MBConv(4, 4, 3, expand_ratio=6, drop_probability=1.0)
    x = tn.Tensor(np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("float32"))
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())
    assert not np.array_equal(block.eval()(x).numpy(), x.numpy())


def test_an_mbconv_that_changes_the_shape_has_no_shortcut() -> None:
    x = tn.Tensor(np.ones((1, 5, 5, 4), "float32"))
    dropped = {"drop_probability": 1.0}
    assert nn.MBConv(4, 4, 3, stride=2, **dropped)(x).shape == (1, 3, 3, 4)
    assert nn.MBConv(4, 6, 3, **dropped)(x).numpy().any()


def test_squeeze_and_excitation_scales_channels_by_their_means(backend: Backend) -> None:
    layer = nn.SqueezeExcitation(2, 1)
    for parameter, value in zip(layer.parameters(), ([1, 0], [0], [0, 1], [0, -1])):
        parameter.data[...] = backend.asarray(np.reshape(value, parameter.shape), "float32")
    x = np.random.default_rng(0).normal(size=(3, 2, 2, 2)).astype("float32")
    mean = x[..., 0].mean(axis=(1, 2)).astype(float)
    squeezed = mean / (1 + np.exp(-mean))
    weights = np.stack([np.full(3, 0.5), 1 / (1 + np.exp(1 - squeezed))], axis=1)
    np.testing.assert_allclose(layer(tn.Tensor(x)).numpy(), x * weights[:, None, None], rtol=1e-5)


def test_a_shared_parameter_is_trained_once() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    net = nn.Sequential(first, second)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    net(tn.Tensor(np.ones((1, 2), "float32"))).sum().backward()
    optimizer = tn.optim.SGD(net.parameters(), lr=0.1)  # would refuse a parameter given twice
    optimizer.step()
    assert second.weight is first.weight


def test_a_shared_module_is_trained_once() -> None:
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    assert len(list(net.parameters())) == 2


# -- state ---------------------------------------------------------------------------------------


def test_the_state_goes_round(backend: Backend) -> None:
    first, second = Net(), Net()
    x = tn.Tensor(np.random.default_rng(1).standard_normal((2, 5, 5, 1)).astype("float32"))
    for p in first.parameters():
        p.data += 1
    first(x)  # moves the running statistics
    state = first.state_dict()
    assert list(state) == NAMES
    assert all(isinstance(array, np.ndarray) for array in state.values())
    second.load_state_dict(state)
    for name, array in second.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    np.testing.assert_array_equal(first.eval()(x).numpy(), second.eval()(x).numpy())


def test_the_state_is_a_copy() -> None:
    net = Net()
    state = net.state_dict()
    state["scale"][:] = 7
    np.testing.assert_array_equal(net.scale.data, [1, 1])
    net.load_state_dict(state)
    state["scale"][:] = 8
    np.testing.assert_array_equal(net.scale.data, [7, 7])


def test_loading_keeps_the_arrays_that_others_hold() -> None:
    net = Net()
    held = net.scale.data
    net.load_state_dict({**net.state_dict(), "scale": np.array([2.0, 3.0])})
    assert net.scale.data is held
    assert held.dtype == "float32"
    np.testing.assert_array_equal(held, [2, 3])


def test_a_state_that_does_not_fit_changes_nothing_and_lists_everything() -> None:
    net = Net()
    before = net.state_dict()
    wrong = {**before, "count": np.array(9), "conv.bias": np.zeros(3), "extra": np.ones(1)}
    del wrong["norm.weight"]
    with pytest.raises(ValueError, match="not of this Net") as raised:
        net.load_state_dict(wrong)
    for line in (
        "missing norm.weight (2,)",
        "extra extra (1,)",
        "misshapen conv.bias: (3,) in the state, (2,) in the model",
    ):
        assert line in str(raised.value)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# -- mode and freezing ---------------------------------------------------------------------------


def test_train_and_eval_reach_every_module() -> None:
    net = nn.Sequential(Net(), nn.Dropout(0.5))
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    net[1].eval()
    assert [m.training for m in net.children()] == [True, False]


def test_a_frozen_part_gets_no_gradient_and_does_not_move() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    before = net.state_dict()
    optimizer = tn.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    net(tn.Tensor(np.ones((4, 2), "float32"))).sum().backward()
    optimizer.step()
    assert [p.grad is None for p in net.parameters()] == [True, True, False, False]
    after = net.state_dict()
    np.testing.assert_array_equal(after["0.weight"], before["0.weight"])
    assert not np.array_equal(after["1.weight"], before["1.weight"])


def test_zero_grad_forgets() -> None:
    net = nn.Linear(2, 1)
    net(tn.Tensor([[1.0, 2.0]])).sum().backward()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_astype_converts_numbers_and_leaves_counters() -> None:
    net = Net()
    assert net.astype("float64") is net
    dtypes = {name: str(tensor.dtype) for name, tensor in net.named_tensors()}
    counters = {"count", "norm.num_batches_tracked"}
    assert {dtypes[name] for name in counters} == {"int64"}
    assert {dtypes[name] for name in dtypes.keys() - counters} == {"float64"}
    assert net(tn.Tensor(np.ones((2, 5, 5, 1)))).dtype == "float64"


# -- containers and representation ---------------------------------------------------------------


def test_sequential_applies_its_modules_in_order() -> None:
    net = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Identity())
    y = net(tn.Tensor(np.array([[[-1.0, 2.0]], [[3.0, -4.0]]])))
    np.testing.assert_array_equal(y.numpy(), [[0, 2], [3, 0]])
    assert len(net) == 3
    assert isinstance(net[-1], nn.Identity)
    assert [type(m).__name__ for m in net] == ["Flatten", "ReLU", "Identity"]


def test_an_empty_sequential_is_the_identity() -> None:
    x = tn.Tensor([1.0])
    assert nn.Sequential()(x) is x


def test_a_module_list_grows_and_has_no_forward() -> None:
    layers = nn.ModuleList([nn.ReLU()])
    assert layers.append(nn.Linear(1, 1)) is layers
    assert len(layers) == 2
    assert isinstance(layers[1], nn.Linear)
    assert [name for name, _ in layers.named_parameters()] == ["1.weight", "1.bias"]
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        layers(tn.Tensor([1.0]))


def test_a_model_shows_its_layers_and_their_options() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1, bias=False), nn.Sequential(nn.Linear(4, 2))
    )
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(2, 2), padding=1, bias=False)\n"
        "  (1): Sequential(\n"
        "    (0): Linear(4, 2, bias=True)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.ReLU()) == "ReLU()"


# -- dropout -------------------------------------------------------------------------------------


def test_dropout_is_for_training_only() -> None:
    layer, x = nn.Dropout(0.5, generator=np.random.default_rng(0)), tn.Tensor(np.ones(1000))
    assert set(np.unique(layer(x).numpy())) == {0, 2}
    assert layer.eval()(x) is x
