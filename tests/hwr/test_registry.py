"""Names, and help for mistyped ones."""

import pickle

import pytest

from hwr.errors import UnknownName, UserError, unknown_name
from hwr.registry import Registry


@pytest.fixture
def models() -> Registry[object]:
    registry = Registry[object]("model")
    for name in ("resnet18", "resnet101", "LeNet5"):
        registry.register(name)(name.upper)
    return registry


def test_the_decorator_returns_what_it_registers(models: Registry[object]) -> None:
    def vgg() -> str:
        return "made"

    assert models.register("vgg")(vgg) is vgg
    assert models.get("vgg") is vgg
    assert models.names() == ("resnet18", "resnet101", "LeNet5", "vgg")


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnet81", "resnet18"), ("RESNET18", "resnet18"), ("lenet", "LeNet5")]
)
def test_a_mistyped_name_is_corrected(models: Registry[object], name: str, nearest: str) -> None:
    with pytest.raises(UnknownName) as caught:
        models.get(name)
    assert str(caught.value) == (
        f"unknown model '{name}'; did you mean '{nearest}'? Known: resnet18, resnet101, LeNet5"
    )


def test_a_name_near_to_none_gets_the_list(models: Registry[object]) -> None:
    with pytest.raises(UserError, match=r"^unknown model 'zzz'; Known: resnet18, resnet101"):
        models.get("zzz")
    with pytest.raises(UserError, match=r"^unknown recipe ''; Known: none$"):
        Registry[object]("recipe").get("")


def test_a_name_can_be_taken_once(models: Registry[object]) -> None:
    with pytest.raises(ValueError, match="model 'resnet18' is registered twice"):
        models.register("resnet18")(int)
    assert models.get("resnet18") is not int


def test_the_error_survives_the_way_between_processes() -> None:
    error = unknown_name("model", "a", ["b"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
