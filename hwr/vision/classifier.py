"""A network that reads 28x28 images of digits, with calibrated probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinynn as tn
from hwr import checkpoint, models
from hwr.config import Config
from hwr.data import Normalize
from hwr.errors import UserError
from hwr.evaluate import create_model
from hwr.recipes import recipes
from tinynn import functional as F
from tinynn.nn import Module

SHIPPED = Path(__file__).with_name("network")
WEIGHTS, FACTS = "photo.safetensors", "photo.json"
RECIPE = "photo"
DIGITS = 10
BATCH = 256

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Classifier:
    """`temperature` divides the logits, so that probabilities are what they say on held-out data.

    A network of ten classes refuses nothing by itself.
    """

    model: Module
    normalize: Normalize
    temperature: float = 1.0

    @tn.no_grad()
    def log_probabilities(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """uint8 (28, 28) each -> (N, 11): the ten digits, and no digit."""
        self.model.eval()
        out = np.full((len(images), DIGITS + 1), -20.0, np.float32)
        for start in range(0, len(images), BATCH):
            batch = np.stack(images[start : start + BATCH])[..., None]
            logits = self.model(tn.Tensor(self.normalize(batch))) / self.temperature
            scores = F.log_softmax(logits, 1).numpy()
            out[start : start + len(batch), : scores.shape[1]] = tn_array(scores)
        return out


def tn_array(array: object) -> NDArray[np.float32]:
    """An array of any backend as NumPy's."""
    return np.asarray(array.get() if hasattr(array, "get") else array, np.float32)


def shipped() -> Classifier:
    """The network inside the package, trained by `python -m hwr.vision.calibrate`."""
    recipe = recipes.get(RECIPE)
    facts = json.loads((SHIPPED / FACTS).read_text("utf-8"))
    model = models.create(recipe.model, **recipe.model_options)
    checkpoint.load(SHIPPED / WEIGHTS, model)
    return Classifier(model, Normalize(recipe.mean, recipe.std), facts["temperature"])


def from_run(folder: Path) -> Classifier:
    """The network of a run. UserError if it does not read ten digits from 28x28 grey images."""
    if not folder.is_dir():
        raise UserError(f"--model {folder}: there is no such run folder; see those under runs/")
    config = Config.read(folder / checkpoint.CONFIG)
    recipe, names = config.recipe, list(config.facts["class_names"])
    if names[:DIGITS] != [str(i) for i in range(DIGITS)] or len(names) > DIGITS + 1:
        raise UserError(
            f"--model {folder} tells apart {', '.join(map(str, names[:12]))}; to read photographs "
            "it must have learnt the digits 0 to 9 (and no digit): train on mnist or photo-digits"
        )
    if config.facts.get("channels", 1) != 1:
        raise UserError(f"--model {folder} reads colours; photographs of digits are read in grey")
    model = create_model(config)
    checkpoint.load(folder / checkpoint.LAST, model)
    return Classifier(model, Normalize(recipe.mean, recipe.std, recipe.image_size))
