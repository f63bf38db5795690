"""What a table of a paper is: which runs it needs, and what the paper reports for each."""

from __future__ import annotations

from dataclasses import dataclass

from hwr.recipes.recipe import Recipe
from hwr.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a run, repeated with other seeds, and what the paper claims for it.

    `epoch` None measures the run at its end; a number measures the weights that the same run had
    after that epoch, and says so. Another `classifier` than "softmax", the network's own last
    layer, reads the features of the run at its end: "linear-svm" or "rbf-svm" of `hwr.svm`.
    `test_on` names another dataset of the same classes whose test images are read.
    """

    label: str
    recipe: Recipe
    epoch: int | None = None
    train_size: int | None = None  # images to train with; None: all but those held out
    claimed: float | None = None  # test accuracy in %
    claimed_loss: float | None = None  # training loss in nats
    classifier: str = "softmax"
    test_on: str | None = None  # None: the dataset of the recipe

    def __post_init__(self) -> None:
        if self.epoch and self.further:
            raise ValueError(
                f"row {self.label!r}: SVMs and other test images are for the last epoch"
            )

    @property
    def further(self) -> bool:
        """Whether it is measured by more than the test that ends a training run."""
        return self.classifier != "softmax" or self.test_on is not None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results to reproduce. `note` says how its runs relate to the paper's."""

    name: str
    title: str
    paper: str
    note: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (0, 1)
    by_validation: bool = False  # sort the lines by validation accuracy: a search

    def __post_init__(self) -> None:
        named = {row.recipe.name for row in self.rows}
        for row in self.rows:
            if row.recipe.pretraining and row.recipe.pretraining not in named:
                raise ValueError(
                    f"table {self.name}: {row.recipe.name} begins with the weights of "
                    f"{row.recipe.pretraining}, which is none of its rows; add it"
                )


tables: Registry[Table] = Registry("table")


def declare_table(table: Table) -> Table:
    """Enter a table under its name."""
    return tables.register(table.name)(table)
