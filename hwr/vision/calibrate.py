"""Train the network that is shipped, and ship it: `python -m hwr.vision.calibrate`.

The run is trained by the recipe `photo` if it is not there, on one thread, since more add up in
another order. In training one image of five is no digit. What a photograph will show nobody knows,
so every class is taken to be as likely as any other, and the bias of the reject class is moved by
what Bayes' rule says of that. Then the images held out, weighted alike, choose the temperature that
makes its probabilities true, and tell which score parts digits from no digits best. What the
network reads of the test images, which decide nothing, is recorded beside the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinynn as tn
from hwr import checkpoint, command, train
from hwr.data import Dataset, Loader
from hwr.errors import UserError
from hwr.evaluate import load_run, reading_loader, split_loader
from hwr.files import make_folder, write_atomic
from hwr.run import split_data
from hwr.statistics import wilson_interval
from hwr.vision.classifier import DIGITS, FACTS, RECIPE, WEIGHTS, from_run
from tinynn.nn import Module

TEMPERATURES = np.exp(np.linspace(np.log(0.3), np.log(3), 93))
NO_DIGITS = 1 / (DIGITS + 1)  # as likely as each digit
BINS = 15  # of the calibration error

Scores = NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> int:
    """Write weights and facts into a folder, and say what was found."""
    p = argparse.ArgumentParser(prog="python -m hwr.vision.calibrate", description=__doc__)
    p.add_argument("run", type=Path, nargs="?", default=Path("runs") / RECIPE,
                   help="a run of the recipe photo (default: runs/photo)")  # fmt: skip
    p.add_argument("--output-dir", type=Path, default=Path("network"), metavar="DIR",
                   help="where photo.safetensors and photo.json go (default: network)")  # fmt: skip
    p.add_argument("--no-digits", type=command.number(0, 1), default=NO_DIGITS, metavar="SHARE",
                   help=f"of what a photograph holds (default: {NO_DIGITS})")  # fmt: skip
    args = p.parse_args(argv)
    if not args.run.exists():
        typed = ["--recipe", RECIPE, "--threads", "1", "--output-dir", str(args.run)]
        if code := train.main(typed):
            return code
    from_run(args.run)  # says what is wrong with another network
    config, model = load_run(args.run)
    recipe = config.recipe
    held_out: Dataset | None
    if recipe.validation_split:
        held_out = split_loader(config, recipe.validation_split).dataset
    else:
        held_out = split_data(config)[1]
    if held_out is None:
        raise UserError(f"{args.run} held no images out; train with --validation 5000")
    share = float((held_out.labels == DIGITS).mean())
    shift = expect(model, share, args.no_digits)
    logits = read(model, reading_loader(recipe, held_out))
    weights = np.where(held_out.labels == DIGITS, args.no_digits / max(share, 1e-9), 1.0)
    make_folder(args.output_dir)
    checkpoint.save_weights(args.output_dir / WEIGHTS, model, {"recipe": recipe.name})
    test = split_loader(config, "test")
    facts: dict[str, Any] = {
        "train": "python -m hwr.vision.calibrate",
        "seed": config.seed,
        "train_images": config.facts["train_images"],
        "parameters": config.facts["parameters"],
        "sha256": hashlib.sha256((args.output_dir / WEIGHTS).read_bytes()).hexdigest(),
        "no_digits": {"in_training": share, "expected": args.no_digits, "bias": shift},
        **measure(logits, held_out.labels, weights),
        "test": tested(read(model, test), test.dataset.labels, shift),
        "recipe": asdict(replace(recipe, claimed={})),
    }
    write_atomic(args.output_dir / FACTS, json.dumps(facts, indent=1) + "\n")
    print(json.dumps({k: v for k, v in facts.items() if k != "recipe"}, indent=1))
    return 0


def tested(logits: Scores, labels: NDArray[np.int64], shift: float) -> dict[str, Any]:
    """What is read right of digits; one that is refused counts as an error.

    Besides: the same before the bias was moved by `shift`, and if nothing is refused.
    """
    right = int((logits.argmax(1) == labels).sum())
    as_trained = logits - shift * (np.arange(logits.shape[1]) == DIGITS)
    return {
        "images": len(labels),
        "accuracy": right / len(labels),
        "interval": wilson_interval(right, len(labels)),
        "as_trained": float((as_trained.argmax(1) == labels).mean()),
        "nothing_refused": float((logits[:, :DIGITS].argmax(1) == labels).mean()),
    }


def expect(model: Module, share: float, expected: float) -> float:
    """Move the bias of the reject class from its share in training to the one expected.

    By log odds, as Bayes' rule has it; returns the shift in nats. Source: Saerens, Latinne and
    Decaestecker 2002, eq. 4.
    """
    bias = model.state_dict()["fc2.bias"]
    if len(bias) <= DIGITS or not 0 < share < 1 or not 0 < expected < 1:
        return 0.0
    shift = float(np.log(expected / (1 - expected)) - np.log(share / (1 - share)))
    moved = bias.copy()
    moved[DIGITS] += shift
    model.load_state_dict({**model.state_dict(), "fc2.bias": moved})
    return shift


@tn.no_grad()
def read(model: Module, loader: Loader) -> Scores:
    """The logits (N, 11) of a loader's images in their order."""
    model.eval()
    batches = loader.epoch(0)
    return np.concatenate([model(tn.Tensor(images)).numpy() for images, _ in batches]).astype(float)


def measure(logits: Scores, labels: NDArray[np.int64], weights: Scores) -> dict[str, Any]:
    """Temperature, calibration before and after, and how well each score parts off no digits."""
    losses = [nll(logits / t, labels, weights) for t in TEMPERATURES]
    best = float(TEMPERATURES[int(np.argmin(losses))])
    is_digit = labels < DIGITS
    probabilities = softmax(logits / best)
    found: dict[str, Any] = {
        "temperature": round(best, 3),
        "held_out": {
            "images": len(labels),
            "accuracy": float(np.average(logits.argmax(1) == labels, weights=weights)),
            "nll": [nll(logits, labels, weights), min(losses)],
            "calibration_error": [
                calibration_error(each, labels, weights)
                for each in (softmax(logits), probabilities)
            ],
        },
    }  # fmt: skip
    if logits.shape[1] > DIGITS and 0 < is_digit.sum() < len(labels):
        digits = logits[:, :DIGITS]
        energy = digits.max(1) + np.log(np.exp(digits - digits.max(1, keepdims=True)).sum(1))
        found["parts_digits_from_others"] = {  # area under the ROC curve
            "likeliest digit": area_under_curve(probabilities[:, :DIGITS].max(1), is_digit),
            "one less reject class": area_under_curve(-probabilities[:, DIGITS], is_digit),
            "energy of the digits": area_under_curve(energy, is_digit),
        }
    return found


def softmax(logits: Scores) -> Scores:
    """Probabilities, row by row."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def nll(logits: Scores, labels: NDArray[np.int64], weights: Scores) -> float:
    """The mean negative log likelihood in nats."""
    chosen = softmax(logits)[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(chosen, 1e-300)), weights=weights))


def calibration_error(probabilities: Scores, labels: NDArray[np.int64], weights: Scores) -> float:
    """The mean gap between confidence and accuracy. Source: Guo et al. 2017, eq. 3."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.minimum((BINS * sure).astype(int), BINS - 1)
    gap = np.bincount(which, weights * (sure - right), minlength=BINS)
    return float(np.abs(gap).sum() / weights.sum())


def area_under_curve(scores: Scores, positive: NDArray[np.bool_]) -> float:
    """How often a digit scores higher than something else: the area under the ROC curve."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


if __name__ == "__main__":
    command.run("hwr.vision.calibrate", main)
