"""Training that diverges stops, says where, and keeps the last good weights."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr import train
from tinynn import state

Cli = Callable[..., Any]
TINY = ["--model", "mlp", "--width", 4, "--validation", 100, "--batch-size", 50, "--threads", 1]


@pytest.mark.parametrize("backend", ["numpy", "reference"])
@pytest.mark.parametrize(
    "options",
    [
        "--optimizer sgd --lr 1e30",
        "--optimizer sgd --lr 1e30 --save-every 0",  # stops before it saves what is not finite
        # one step: only the validation shows it
        "--optimizer sgd --lr 3e38 --schedule constant --train-size 50 --epochs 1",
        "--optimizer adam --lr 3e38 --schedule constant --save-every 0",
    ],
)
def test_divergence_stops_and_keeps_the_last_good_weights(
    cli: Cli, digits: Path, options: str, backend: str
) -> None:
    rest = ("--width", 64, "--backend", backend, "--data-dir", digits, "--output-dir", "run")
    run = cli("train", *TINY, *options.split(), *rest)  # warnings are errors here
    assert run.code == 1
    match = re.fullmatch(
        r"hwr\.train: .* (step \d+|step \d+ \(epoch 1\)); training stopped\. "
        r"run/last\.safetensors holds the weights of step (\d+)\. Try a lower --lr than .*\.\n",
        run.err,
    )
    assert match, run.err
    arrays, standing = state.read_arrays("run/last.safetensors")
    assert standing["step"] == int(match[2])
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert cli("evaluate", "run").code == 0


def test_a_validation_loss_that_overflows_stops_it(
    cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = train.evaluate
    monkeypatch.setattr(
        train,
        "evaluate",
        lambda *args, **options: replace(evaluate(*args, **options), loss=float("inf")),
    )
    run = cli("train", *TINY, "--data-dir", digits, "--output-dir", "run")
    assert run.code == 1
    assert run.err.startswith("hwr.train: the validation loss is inf after step 6; training stop")
    assert state.read_metadata("run/last.safetensors")["step"] == 0
    assert not Path("run/best.safetensors").exists()
