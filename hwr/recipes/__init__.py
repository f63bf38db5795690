"""The experiments of the papers, declared: one file a paper."""

from hwr.recipes import arora, chi2022, fast, zhang  # each enters its recipes into the table
from hwr.recipes.recipe import Recipe, recipes

DEFAULT = "chi2022-resnet18"

__all__ = ["DEFAULT", "Recipe", "arora", "chi2022", "fast", "recipes", "zhang"]
