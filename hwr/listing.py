"""`python -m hwr.train --list-recipes`: every experiment, and what it takes here."""

from __future__ import annotations

from hwr.config import Config
from hwr.errors import DataError
from hwr.estimate import sample
from hwr.progress import clock
from hwr.recipes import Recipe, recipes
from tinynn.kernels.threads import usable_cpus


def list_recipes() -> int:
    """Print every recipe with paper, model, data, claim, and a time measured over a few steps."""
    for name in recipes.names():
        print(describe(recipes.get(name)), end="\n\n", flush=True)
    return 0


def describe(recipe: Recipe) -> str:
    """A recipe as the list shows it."""
    threads = usable_cpus()
    try:
        found = sample(Config(recipe=recipe, threads=threads))
    except DataError as error:  # not fetched: the other recipes are still to be shown
        lines = {"paper": recipe.paper, "model": recipe.network, "data": f"not here: {error}"}
        return listed(recipe, lines | {"also": recipe.refinements, "note": recipe.note})
    claims = ", ".join(f"{a:g} % after {e} epochs" for e, a in recipe.claimed.items())
    lines = {
        "paper": recipe.paper,
        "model": f"{recipe.network}, {found.run.config.facts['parameters']:,} parameters",
        "data": f"{recipe.dataset}, {found.images:,} images to train, {found.held_out:,} held out",
        "claimed": claims or "nothing",
        "time": f"about {clock(found.seconds)} here, {recipe.epochs} epochs on {threads} threads",
        "also": recipe.refinements,
        "note": recipe.note,
    }
    return listed(recipe, lines)


def listed(recipe: Recipe, lines: dict[str, str]) -> str:
    """The recipe's name, and what is known of it below."""
    return "\n".join([recipe.name, *(f"  {k:8} {v}" for k, v in lines.items() if v)])
