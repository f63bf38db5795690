"""What layers look for, for every model; and the pictures for whatever there may be to show."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from hwr import models
from hwr.data import Normalize
from hwr.report import features, figures, measure, style
from hwr.report.features import Features

NORMALIZE = Normalize(0.1307, 0.3081)
SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 4},
    "plain18": {"width": 4},
    "mlp": {"width": 16},
    "efficientnet-b0": {"width": 8},
}
NAMES = [str(i) for i in range(10)]


def small(name: str) -> tuple[Any, tuple[int, int, int]]:
    """A model by name, narrow where it can be, and the images it reads."""
    size = 32 if name == "efficientnet-b0" else 28
    options = SMALL.get(name, {}) | {"classes": 10}
    options |= {"size": size} if "size" in models.options_of(name) else {}
    return models.create(name, seed=0, **options), (size, size, 1)


@pytest.mark.parametrize("name", [n for n in models.models.names() if n != "zhan-dense"])
def test_every_model_shows_its_features(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 2)
    model, shape = small(name)
    before = model.state_dict()
    found = features.find_features(model, NORMALIZE, shape, NAMES, most=3)
    assert found[-1].title == "classes"
    assert list(found[-1].names) == ["0", "4", "9"]
    for each in found:
        assert each.images.dtype == np.uint8
        assert each.images.shape == (len(each.names), *shape)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_first_middle_and_last_convolution() -> None:
    assert features.chosen_layers(small("resnet18")[0]) == [
        "conv1",
        "layer2.1.conv2",
        "layer4.1.conv2",
    ]
    assert features.chosen_layers(small("fast")[0]) == ["conv1", "conv2"]
    assert features.chosen_layers(small("mlp")[0]) == []


def test_first_weights_as_images() -> None:
    for name, shape in {"resnet18": (4, 7, 7), "mlp": (16, 28, 28)}.items():
        weights = features.first_weights(*small(name))
        assert weights is not None
        assert weights.shape == shape
    assert features.first_weights(*small("simple-rnn")) is None
    model, shape = small("mlp")
    weights = features.first_weights(model, shape)
    assert weights is not None
    np.testing.assert_array_equal(weights[3].ravel(), model.fc1.weight.numpy()[3])


def test_ascent_excites_its_unit() -> None:
    """Each image excites its own channel more than noise does, and more than the others do."""
    model, shape = small("fast")
    model.eval()
    units = [("classes", i) for i in range(4)]
    images = features.maximise(model, units, NORMALIZE, shape, seed=0)
    again = features.maximise(model, units, NORMALIZE, shape, seed=0)
    np.testing.assert_array_equal(images, again)
    noise = np.random.default_rng(1).integers(0, 255, images.shape).astype(np.uint8)
    with tn.no_grad():
        logits, of_noise = (
            model(tn.Tensor(NORMALIZE(each))).numpy()[:, :4] for each in (images, noise)
        )
    assert (np.diag(logits) > of_noise.max(0)).all()
    assert (logits.argmax(0) == np.arange(4)).all()


def test_blur_keeps_an_even_image() -> None:
    even = np.full((1, 6, 9, 2), 0.5, np.float32)
    np.testing.assert_allclose(features.blur(even, 1.0), even, rtol=1e-6)


def drawn(draw: Callable[..., None], *args: Any) -> None:
    """Draw, and check that a picture comes of it; warnings are errors."""
    assert style.draw_png(draw, *args).startswith(b"\x89PNG")


@pytest.mark.parametrize("classes", [2, 70])
def test_pictures_of_any_number_of_classes(classes: int) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    counts = np.random.default_rng(0).integers(0, 3, (classes, classes))
    names = [f"sign {i}" for i in range(classes)]
    for confusion in (counts, np.diag(np.full(classes, 5))):
        drawn(figures.confusion, confusion, names)
        drawn(figures.class_scores, measure.per_class(confusion, names))


def test_pictures_of_images_of_any_size() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    images = np.zeros((2, 20, 50, 3), np.uint8)
    wrong = [
        measure.Mistake(i, 0, 1, 0.9, 0.1, doubted, people)
        for i, (doubted, people) in enumerate([(True, 1), (True, None)])
    ]
    for names in (["0", "1"], ["writer 1", "writer 2"]):
        drawn(figures.misread, images, wrong, names)
    found = [Features("conv", ["0"], images[:1]), Features("classes", ["a", "b"], images)]
    drawn(figures.features, found)
    for weights in (np.zeros((1, 3, 3)), np.ones((70, 5, 5))):
        drawn(figures.filters, weights)


def test_curves_of_one_epoch_and_of_older_runs() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    new = {"train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": 2.0}
    for lines in ([{"epoch": 1, **new}], [{"epoch": i, "train_loss": 1.0} for i in range(1, 41)]):
        drawn(figures.curves, lines)
