"""A trained network whose features support vector machines read, beside its own last layer.

The machines lie in the run's folder: svm/linear.safetensors and svm/rbf.safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinynn as tn
from hwr import checkpoint
from hwr.config import Config
from hwr.data import Loader
from hwr.errors import UserError
from hwr.evaluate import outputs, reading_loader, split_loader
from hwr.files import make_folder
from hwr.models import without_head
from hwr.run import split_data
from hwr.svm import fit
from hwr.svm.machine import SVM
from hwr.svm.rejection import Reading
from tinynn import functional as F
from tinynn import nn
from tinynn.nn import Module

FOLDER = "svm"  # in the run's
KERNELS = {"linear-svm": "linear", "rbf-svm": "rbf"}
CLASSIFIERS = ("softmax", *KERNELS)


@dataclass(frozen=True)
class Hybrid:
    """A run's network without its last layer, that layer, and the machines in its place."""

    config: Config
    trunk: Module
    head: nn.Linear
    machines: Mapping[str, SVM]

    def readings(self, loader: Loader, label: str) -> dict[str, Reading]:
        """What each classifier makes of the images of a loader.

        The softmax is as sure as the ratio of its two highest probabilities, in logarithm.
        """
        features, labels = features_of(self.trunk, loader, label)
        with tn.no_grad():
            logits = F.log_softmax(self.head(tn.Tensor(features)), 1).numpy()
        second, first = np.sort(logits, 1)[:, -2:].T
        found = {"softmax": Reading(logits.argmax(1), (first - second).astype(float), labels)}
        for name, machine in self.machines.items():
            found[name] = Reading(*machine.read(features), labels)
        return found

    def validation(self) -> dict[str, Reading]:
        """What each classifier makes of the images held out. UserError if there are none."""
        _, held_out = split_data(self.config)
        if held_out is None:
            raise UserError(
                "the run held no images out, and what to refuse must not be chosen on test "
                "images; train one with --validation"
            )
        return self.readings(reading_loader(self.config.recipe, held_out), "reading held out")

    def test(self, dataset: str | None = None) -> dict[str, Reading]:
        """What each classifier makes of the test images, the run's own or another dataset's.

        UserError if that has other classes than the run.
        """
        name = dataset or self.config.recipe.dataset
        config = replace(self.config, recipe=replace(self.config.recipe, dataset=name))
        loader, known = split_loader(config, "test"), self.config.facts["class_names"]
        if list(loader.dataset.classes) != list(known):
            raise UserError(
                f"the run tells {len(known)} classes apart, but {name} has "
                f"{len(loader.dataset.classes)} or others; test it on one with the same classes"
            )
        return self.readings(loader, f"reading {name}")


def features_of(
    trunk: Module, loader: Loader, label: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The features (N, F) of the images of a loader, and their labels (N,)."""
    parts = [(output.numpy(), labels) for output, labels in outputs(trunk, loader, label)]
    features, labels = map(np.concatenate, zip(*parts))
    return features, labels


def open_hybrid(
    folder: Path,
    config: Config,
    model: Module,
    names: Sequence[str] = tuple(KERNELS),
    *,
    refit: bool = False,
) -> Hybrid:
    """A run's last weights with the machines named; those not there yet are fitted and saved.

    They are fitted to the images that trained the network, as they are. Machines of other weights
    than the run's present ones are fitted anew. UserError for a run that classifies nothing.
    """
    if config.recipe.task != "classification":
        raise UserError(
            f"{folder} reads {config.recipe.task}, and an SVM reads classes; choose another run"
        )
    trunk, head = without_head(model)
    machines = {} if refit else saved(folder, names)
    if lacking := [name for name in names if name not in machines]:
        train, _ = split_data(config)
        loader = reading_loader(config.recipe, train)
        features, labels = features_of(trunk, loader, "reading training images")
        make_folder(folder / FOLDER)
        for name in lacking:
            machine = fit.fit(KERNELS[name], features, labels, step=step_of(folder))
            machine.save(path_of(folder, name))
            machines[name] = machine
    return Hybrid(config, trunk, head, {name: machines[name] for name in names})


def saved(folder: Path, names: Sequence[str]) -> dict[str, SVM]:
    """The machines there are for the run's present weights."""
    paths = {name: path_of(folder, name) for name in names}
    found = {name: SVM.load(path) for name, path in paths.items() if path.exists()}
    step = step_of(folder)
    return {name: machine for name, machine in found.items() if machine.facts.get("step") == step}


def path_of(folder: Path, name: str) -> Path:
    """The file of a run's machine."""
    return folder / FOLDER / f"{KERNELS[name]}.safetensors"


def step_of(folder: Path) -> int | None:
    """How many updates made the run's last weights."""
    return checkpoint.progress_of(folder).get("step")
