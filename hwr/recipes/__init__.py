"""The experiments of the papers, declared: one file a paper."""

from hwr.recipes import (  # each enters what it declares
    ahlawat,
    arora,
    best,
    chaurasia,
    chi2022,
    fast,
    jin,
    letters,
    niu_suen,
    photo,
    rao,
    zhan,
    zhang,
)  # fmt: skip
from hwr.recipes.recipe import Recipe, recipes
from hwr.recipes.table import Row, Table, tables

DEFAULT = "chi2022-resnet18"

__all__ = [
    "DEFAULT", "Recipe", "Row", "Table", "ahlawat", "arora", "best", "chaurasia", "chi2022",
    "fast", "jin", "letters", "niu_suen", "photo", "rao", "recipes", "tables", "zhan", "zhang",
]  # fmt: skip
