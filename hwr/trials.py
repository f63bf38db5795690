"""The runs that tables are made of: each in a folder of its own, trained once, used by all.

A trial is one row's run with one seed. Its folder is an ordinary run folder, so that everything
that reads one (`hwr.evaluate`, `hwr.report`, `hwr.inspect`) reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tinynn as tn
from hwr import checkpoint
from hwr.config import Config
from hwr.data import datasets, location
from hwr.errors import UserError
from hwr.estimate import training_seconds
from hwr.evaluate import load_run
from hwr.machine import commit
from hwr.recipes import Row, Table
from hwr.run import prepare
from hwr.svm import fit
from hwr.svm.hybrid import KERNELS, open_hybrid
from hwr.train import finish, train

SAVE_EVERY_S = 120.0
TestKey = tuple[int, str, str | None]  # epochs trained, classifier, the dataset if another


@dataclass(frozen=True)
class Trial:
    """A run to make: its configuration, its folder, and the rows that it fills."""

    config: Config
    folder: Path
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def began(self) -> bool:
        """Whether its folder holds a run."""
        return (self.folder / checkpoint.CONFIG).exists()

    @property
    def done(self) -> bool:
        """Whether it is trained and tested, in each of the ways that its rows ask for."""
        return self.began and bool(Outcome.read(self.folder).tests) and not self.untested()

    @property
    def absent(self) -> set[str]:
        """The datasets that it needs, to train or to test on, and that are not here."""
        names = {self.config.recipe.dataset, *(row.test_on for row in self.rows if row.test_on)}
        folder = Path(self.config.data_dir) if self.config.data_dir else None
        return {name for name in names if not location.is_found(datasets.get(name), folder)}

    @property
    def possible(self) -> bool:
        """Whether the images that it trains on are here."""
        return self.config.recipe.dataset not in self.absent

    def untested(self) -> list[Row]:
        """The rows that ask for more than the test which ends training, have it not yet, and can
        have it here."""
        tests, absent = Outcome.read(self.folder) if self.began else None, self.absent
        rows = [row for row in self.rows if row.further and row.test_on not in absent]
        return [row for row in rows if not (tests and tests.has(row))]

    @property
    def waits(self) -> bool:
        """Whether the run that it begins with the weights of is not finished."""
        first = self.config.initial_weights
        return first is not None and not checkpoint.progress_of(Path(first)).get("finished")

    def seconds(self) -> float:
        """About how long the epochs that are left take here."""
        epochs = self.config.recipe.epochs
        left = epochs - checkpoint.progress_of(self.folder).get("epoch", 0)
        return training_seconds(self.config) * left / epochs

    def run(self) -> int:
        """Train what is left, and test. Returns the exit code that `hwr.train` would."""
        with tn.use_backend(self.config.backend):
            code = 0 if self.began and Outcome.read(self.folder).tests else self._train()
            if code == 0 and (rows := self.untested()):
                for values in further_tests(self.folder, rows):
                    checkpoint.log(self.folder, **values)
            return code

    def _train(self) -> int:
        run = prepare(self.config)
        progress = checkpoint.progress_of(self.folder)
        if progress.get("finished"):  # it was stopped before it was tested
            checkpoint.load(self.folder / checkpoint.LAST, run.model, run.optimizer, run.ema)
            run.restore(progress)
            finish(run, self.folder, 0.0)
            return 0
        return train(run, self.folder, is_new=not self.began, save_every=SAVE_EVERY_S)


def further_tests(folder: Path, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """What rows ask for beside the test that ends a training run, as lines of metrics.

    UserError if a dataset to test on has other classes than the run.
    """
    config, model = load_run(folder)
    names = [name for name in KERNELS if any(row.classifier == name for row in rows)]
    hybrid = open_hybrid(folder, config, model, names)
    for test_on in dict.fromkeys(row.test_on for row in rows):
        readings = hybrid.test(test_on)
        held_out = hybrid.validation() if test_on is None and config.recipe.validation else {}
        for name in dict.fromkeys(row.classifier for row in rows if row.test_on == test_on):
            values = {
                "after_epoch": checkpoint.progress_of(folder)["epoch"],
                "classifier": name,
                "test_on": test_on,
                "test_accuracy": readings[name].correct / len(readings[name]),
                "test_correct": readings[name].correct,
                "test_images": len(readings[name]),
            }
            if held_out:
                values["validation_accuracy"] = held_out[name].correct / len(held_out[name])
            yield values


@dataclass(frozen=True)
class Outcome:
    """What a trained trial left: its configuration and the lines of its metrics."""

    folder: Path
    config: Config
    epochs: list[dict[str, Any]] = field(default_factory=list)
    tests: dict[TestKey, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> Outcome:
        """Read a run folder. UserError if it is none, or damaged."""
        outcome = Outcome(folder, Config.read(folder / checkpoint.CONFIG))
        for values in checkpoint.metrics(folder):
            if "epoch" in values:
                outcome.epochs.append(values)
            else:
                epoch = values.get("after_epoch", outcome.config.recipe.epochs)
                key = epoch, values.get("classifier", "softmax"), values.get("test_on")
                outcome.tests[key] = values
        return outcome

    def has(self, row: Row) -> bool:
        """Whether the test that a row asks for is made."""
        return bool(self.tests) and self._key(row) in self.tests

    def test(self, row: Row) -> dict[str, Any]:
        """The test that a row asks for."""
        return self.tests[self._key(row)]

    def _key(self, row: Row) -> TestKey:
        last = max(epoch for epoch, _, _ in self.tests)
        return row.epoch or last, row.classifier, row.test_on

    def epoch(self, row: Row) -> dict[str, Any]:
        """The figures of the epoch that a row asks for."""
        return self.epochs[(row.epoch or len(self.epochs)) - 1]

    @property
    def commit(self) -> str | None:
        """The commit that trained it."""
        made: str | None = self.config.facts.get("machine", {}).get("commit")
        return made

    @property
    def seconds(self) -> float:
        """How long its epochs took."""
        return float(sum(values["seconds"] for values in self.epochs))


def trials_of(table: Table, root: Path, settings: Config, seeds: Iterable[int]) -> Iterator[Trial]:
    """The runs a table needs, the first seed of every row before the second of any.

    `settings` holds what is common to all: backend, threads and the folder of the data.
    """
    for seed in seeds:
        made = {}
        for row in table.rows:
            made[folder_name(row, seed)] = trial(table, row, root, replace(settings, seed=seed))
        yield from made.values()


def trial(table: Table, row: Row, root: Path, settings: Config) -> Trial:
    """The run that a row needs; rows that ask for other epochs of one run share it."""
    same = row.recipe, row.train_size
    shared = tuple(r for r in table.rows if (r.recipe, r.train_size) == same)
    keep = sorted({r.epoch for r in shared if r.epoch and r.epoch < row.recipe.epochs})
    config = replace(settings, recipe=row.recipe, train_size=row.train_size, keep_epochs=keep)
    if row.recipe.pretraining:  # a row of the same table, with the same seed
        first = next(r for r in table.rows if r.recipe.name == row.recipe.pretraining)
        config = replace(config, initial_weights=str(root / folder_name(first, settings.seed)))
    return Trial(config, root / folder_name(row, settings.seed), shared)


def folder_name(row: Row, seed: int) -> str:
    """The name of a trial's folder: what tells it from others."""
    part = "" if row.train_size is None else f"-images-{row.train_size}"
    return f"{row.recipe.name}-epochs-{row.recipe.epochs}{part}-seed-{seed}"


def check_trials(trials: Sequence[Trial], *, any_commit: bool = False) -> None:
    """UserError if a folder holds another run, the runs would be of several commits, or an SVM is
    to be fitted and cannot be."""
    began = [trial for trial in trials if trial.began]
    for trial in began:
        check_same(trial)
    missing = [trial for trial in trials if trial.possible and not trial.done]
    if any(row.classifier in KERNELS for trial in missing for row in trial.untested()):
        fit.require()
    made = {trial.name: Outcome.read(trial.folder).commit for trial in began}
    if missing:
        made["what is still to run"] = commit()
    if len(set(made.values())) > 1 and not any_commit:
        listed = "; ".join(f"{name}: {made[name]}" for name in made)
        raise UserError(
            f"the runs of this table would be of different commits ({listed}); go back to one "
            "commit, choose another --output-dir, or accept it by --any-commit: the page then "
            "says which run is of which"
        )


def check_same(trial: Trial) -> None:
    """UserError if the trial's folder holds a run of another configuration."""
    there, here = identity(Config.read(trial.folder / checkpoint.CONFIG)), identity(trial.config)
    different = [
        f"{name} is {there.get(name)} there, {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if different:
        raise UserError(
            f"{trial.folder} holds another run: {'; '.join(different)}; nothing is mixed: choose "
            "another --output-dir, remove that folder, or go back to what it was made with"
        )


def identity(config: Config) -> dict[str, Any]:
    """What decides a run's figures: the recipe without its prose, and the settings."""
    recipe = {f"recipe.{k}": v for k, v in json.loads(json.dumps(asdict(config.recipe))).items()}
    for prose in ("paper", "note", "claimed"):
        del recipe[f"recipe.{prose}"]
    settings = ("seed", "backend", "train_size", "limit_batches", "data_dir", "keep_epochs")
    first = config.initial_weights  # by its run's name: the folders may have been moved together
    begins = {"initial_weights": first and Path(first).name}
    return recipe | begins | {name: getattr(config, name) for name in settings}
