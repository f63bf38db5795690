"""Support vector machines on a network's features: fitted, saved, read with, and refusing."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hwr import checkpoint
from hwr.errors import UserError
from hwr.svm import SVM, fit, hybrid
from hwr.svm.rejection import Reading

Cli = Callable[..., Any]
Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def clusters(count: int, images: int = 180, seed: int = 0) -> Labelled:
    """Features of `count` classes that overlap, after ReLU; one feature is always 0."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(0, 1.5, (count, 8))
    labels = np.arange(images) % count
    features = np.maximum(centres[labels] + rng.normal(size=(images, 8)), 0)
    return np.hstack([features, np.zeros((images, 1))]).astype(np.float32), labels


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_machine_decides_as_scikit_learn_does(kernel: str, count: int) -> None:
    pytest.importorskip("sklearn", reason="SVMs are scikit-learn's")
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    features, labels = clusters(count)
    names = labels + 5  # classes need not begin with 0
    scaler = StandardScaler().fit(features.astype(np.float64))
    svc = SVC(kernel=kernel, C=2.0, gamma=0.1, decision_function_shape="ovo")
    svc.fit(scaler.transform(features.astype(np.float64)), names)
    machine = fit.from_sklearn(scaler, svc, {})
    fresh, _ = clusters(count, 2000, seed=1)
    scaled = scaler.transform(fresh.astype(np.float64))
    expected = svc.decision_function(scaled).reshape(len(fresh), -1)
    expected = -expected if count == 2 else expected  # its sign is that of the second class
    np.testing.assert_allclose(machine.decisions(fresh), expected, atol=1e-9)
    read, sure = machine.read(fresh)
    assert np.array_equal(read, svc.predict(scaled))
    assert set(read) <= set(range(5, 5 + count))
    if count == 2:
        np.testing.assert_allclose(sure, np.abs(expected[:, 0]), atol=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_fitted_machine_survives_its_file(kernel: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="SVMs are scikit-learn's")
    features, labels = clusters(4)
    machine = fit.fit(kernel, features, labels, step=3)
    path = tmp_path / "machine.safetensors"
    machine.save(path)
    loaded = SVM.load(path)
    fresh, truth = clusters(4, seed=1)
    for mine, theirs in zip(machine.read(fresh), loaded.read(fresh)):
        assert np.array_equal(mine, theirs)
    assert (loaded.predict(fresh) == truth).mean() > 0.7
    assert loaded.facts == machine.facts
    assert loaded.facts["step"] == 3
    assert loaded.facts["C"] in fit.GRID[kernel]["C"]
    assert (loaded.gamma is None) == (kernel == "linear")
    assert len(loaded.predict(np.zeros((0, 9)))) == 0
    with pytest.raises(UserError, match=r"reads 9 features, but was given \(2, 8\)"):
        loaded.predict(np.zeros((2, 8)))


def test_what_is_no_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.safetensors"
    with pytest.raises(UserError, match=r"machine.safetensors: there is no such file"):
        SVM.load(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="not a support vector machine"):
        SVM.load(path)
    arrays = {name: np.zeros(3) for name in ("mean", "scale", "intercepts")}
    checkpoint.write(path, arrays, {})
    with pytest.raises(UserError, match=r"not a support vector machine.*weights"):
        SVM.load(path)
    checkpoint.write(path, arrays | {"weights": np.zeros((3, 1)), "classes": np.arange(3)}, {})
    with pytest.raises(UserError, match=r"weights is \(3, 1\), expected \(3, 3\)"):
        SVM.load(path)


def test_too_few_images_are_refused() -> None:
    pytest.importorskip("sklearn", reason="SVMs are scikit-learn's")
    features, labels = clusters(4, 11)  # 3, 3, 3 and 2
    with pytest.raises(UserError, match="of the smallest 2: an SVM needs 2 classes and 3 images"):
        fit.fit("linear", features, labels)
    with pytest.raises(UserError, match="9 images of 1 classes"):
        fit.fit("linear", features[:9], labels[:9] * 0)


def test_the_search_sees_its_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [6000, 3000, 1500])
    chosen = fit.subset(labels)
    assert len(set(chosen)) == fit.SEARCHED
    counts = np.bincount(labels[chosen]) / fit.SEARCHED
    np.testing.assert_allclose(counts, [4 / 7, 2 / 7, 1 / 7], atol=1e-3)
    assert fit.subset(labels[:50]).tolist() == list(range(50))


def reading(sure: list[float], right: list[int]) -> Reading:
    """Readings of class 0, right where `right` is 1."""
    labels = 1 - np.array(right)
    return Reading(np.zeros(len(sure), np.int64), np.array(sure), labels)


def test_what_is_no_surer_than_an_error_is_refused() -> None:
    held_out = reading([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0])
    assert held_out.threshold() == 0.5
    assert held_out.at(0.5) == {
        "read": 1, "share_read": 0.25, "errors": 0, "accuracy": 1.0,
        "interval": pytest.approx((0.2065, 1.0), abs=1e-4),
    }  # fmt: skip
    other = reading([0.8, 0.7, 0.6, 0.2, 0.1], [1, 0, 1, 1, 1])
    assert (other.at(0.5)["read"], other.at(0.5)["errors"]) == (3, 1)
    faultless = reading([0.2, 0.1], [1, 1])
    assert faultless.threshold() is None
    assert other.at(None)["share_read"] == 1
    assert other.at(0.95)["accuracy"] is None  # nothing is read


def test_the_curve_refuses_the_least_sure_first() -> None:
    curve = reading([0.9, 0.3, 0.7, 0.1], [1, 0, 1, 0]).curve()
    assert curve == [(0.0, 0.5), (0.25, pytest.approx(1 / 3)), (0.5, 0.0), (0.75, 0.0)]


@pytest.fixture
def trained(cli: Cli, digits: Path) -> Path:
    """The folder of a small network that has seen 300 digits."""
    done = cli(
        "train", "--recipe", "fast", "--epochs", 3, "--validation", 100, "--batch-size", 50,
        "--data-dir", digits, "--threads", 1, "--output-dir", "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    return Path("run")


def test_three_classifiers_side_by_side(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason="SVMs are scikit-learn's")
    done = cli("svm.__main__", trained)
    assert done.code == 0, done.err
    found = json.loads((trained / "svm" / "svm.json").read_text())
    assert list(found) == list(hybrid.CLASSIFIERS)
    evaluated = json.loads(cli("evaluate", trained, "--json").out)
    assert found["softmax"]["correct"] == evaluated["correct"]
    for name, each in found.items():
        assert each["total"] == 200
        assert each["accuracy"] > 0.7
        assert each["interval"][0] < each["accuracy"] < each["interval"][1]
        refused = each["rejection"]
        assert refused["validation_images"] == 100
        assert refused["read"] < 200  # a network this small makes errors in validation
        assert each["share_read_without_error"] < 1
        assert ("machine" in each) == (name != "softmax")
    page = (trained / "svm" / "svm.md").read_text()
    assert "network + RBF SVM" in page
    assert (trained / "svm" / "rejection.png").exists() == bool(
        importlib.util.find_spec("matplotlib")
    )

    def fail(*args: object, **facts: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(fit, "fit", fail)
    again = cli("svm.__main__", trained, "--json", "--output-dir", "elsewhere")
    assert json.loads(again.out) == found  # from the files, and without scikit-learn
    assert json.loads((Path("elsewhere") / "svm.json").read_text()) == found
    with pytest.raises(AssertionError, match="fitted again"):
        cli("svm.__main__", trained, "--refit")
    machine = SVM.load(trained / "svm" / "rbf.safetensors")
    SVM(**{**vars(machine), "facts": {**machine.facts, "step": 1}}).save(
        trained / "svm" / "rbf.safetensors"
    )
    with pytest.raises(AssertionError, match="fitted again"):  # it was of other weights
        cli("svm.__main__", trained)


def test_without_scikit_learn_it_says_what_to_install(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = cli("svm.__main__", trained)
    assert done.code == 2
    assert "scikit-learn, which is not installed; pip install '.[svm]'" in done.err


def test_runs_that_cannot_have_machines_are_refused(cli: Cli, digits: Path, trained: Path) -> None:
    pytest.importorskip("sklearn", reason="SVMs are scikit-learn's")
    config = json.loads((trained / "config.json").read_text())
    config["recipe"]["task"] = "strings"
    (trained / "config.json").write_text(json.dumps(config))
    done = cli("svm.__main__", trained)
    assert (done.code, "reads strings, and an SVM reads classes" in done.err) == (2, True)
    config["recipe"] |= {"task": "classification", "validation": 0}
    (trained / "config.json").write_text(json.dumps(config))
    done = cli("svm.__main__", trained)
    assert (done.code, "held no images out" in done.err) == (2, True)
