"""What a table of a paper is: which runs it needs, and what the paper reports for each."""

from __future__ import annotations

from dataclasses import dataclass

from hwr.recipes.recipe import Recipe
from hwr.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a run, repeated with other seeds, and what the paper claims for it.

    `epoch` None measures the run at its end; a number measures the weights that the same run had
    after that epoch, and says so.
    """

    label: str
    recipe: Recipe
    epoch: int | None = None
    train_size: int | None = None  # images to train with; None: all but those held out
    claimed: float | None = None  # test accuracy in %
    claimed_loss: float | None = None  # training loss in nats


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


tables: Registry[Table] = Registry("table")


def declare_table(table: Table) -> Table:
    """Enter a table under its name."""
    return tables.register(table.name)(table)
