"""Read one image of a string with a trained run: `StringReader(folder).read(image)`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinynn as tn
from hwr import checkpoint, data
from hwr.data.lines import Canvas
from hwr.decoding import beam_search, collapse
from hwr.errors import UserError
from hwr.evaluate import load_classes, load_run
from hwr.recipes import Recipe
from hwr.strings import text
from hwr.tasks.strings import BLANK
from tinynn import functional as F

BEAM = 16  # labellings that go on from step to step
COMPOSED_FILL = 0.7  # composed digits are about 20 to 24 of 32 pixels high


@dataclass(frozen=True)
class StringReading:
    """What an image reads as, and the probability that the model gives it, from 0 to 1.

    Of the greedy reading it is that of the one path; of the beam's, of all paths that were kept.
    """

    text: str
    probability: float


class StringReader:
    """Reads images of lines by a run that was trained to read strings.

    Raises UserError for a folder of another run.
    """

    def __init__(self, folder: Path, weights: str = checkpoint.LAST) -> None:
        self.config, self.model = load_run(folder, weights)
        recipe = self.config.recipe
        if recipe.task != "strings":
            raise UserError(
                f"{folder} tells classes apart and reads no strings; train "
                "one that does: python -m hwr.train --recipe zhan-strings"
            )
        self.classes = load_classes(self.config)
        self.canvas = canvas_of(recipe)
        self.normalize = data.Normalize(recipe.mean, recipe.std)

    def read(self, image: NDArray[np.uint8], beam: int | None = BEAM) -> StringReading:
        """Read a line, uint8 (H, W) or of colours (H, W, 3), dark on light or light on dark.

        `beam` labellings go on from step to step; None reads greedily. Raises UserError for other
        arrays.
        """
        line = light_on_dark(image)
        with tn.no_grad():
            batch = self.normalize(self.canvas.fit(line)[None, :, :, None])
            logits = self.model.eval()(tn.Tensor(batch))
            log_probs = F.log_softmax(logits, 2).numpy()[:, 0]  # (T, 1 + classes)
        if beam is None:
            (labels,) = collapse(log_probs.argmax(1)[None], BLANK)
            score = float(log_probs.max(1).sum())
        else:
            labels, score = beam_search(log_probs, beam)[0]
        named = text([label - 1 for label in labels], self.classes)
        return StringReading(named, min(1.0, math.exp(score)))


def canvas_of(recipe: Recipe) -> Canvas:
    """Where a line goes: as in training, or where the digits of composed strings stand."""
    if recipe.canvas is not None:
        return recipe.canvas
    assert recipe.synthesis is not None, "strings come from a canvas or from composing"
    size = recipe.synthesis
    return Canvas(height=size.height, width=size.width, fill=COMPOSED_FILL)


def light_on_dark(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One line in grey, its ink brighter than its paper: the border, by its median, is paper."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise UserError(
            f"an image of a string is uint8 (H, W) or (H, W, 3), not {image.dtype} {image.shape}"
        )
    grey = image if image.ndim == 2 else np.rint(image.mean(2)).astype(np.uint8)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    return 255 - grey if paper - float(grey.min()) > float(grey.max()) - paper else grey


def read_string(
    image: NDArray[np.uint8], run: Path, *, beam: int | None = BEAM
) -> tuple[str, float]:
    """The text of one image and its probability; of many, `StringReader` opens the run once."""
    reading = StringReader(run).read(image, beam)
    return reading.text, reading.probability
