"""P3: Jin, Qian and Wang, "Handwriting Recognition Deep Learning": who wrote this?"""

from dataclasses import replace

from hwr.data.lines import Patches
from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Jin, Qian and Wang: Handwriting Recognition Deep Learning"

WRITERS = declare(
    Recipe(
        name="jin-writers",
        paper=PAPER,
        note="50 writers of IAM; the paper's split is by sentences, so that a form stands on both "
        "sides. It gives no batch size, and does not say how many patches a sentence gives. Its "
        "accuracy is that of patches; a sentence is told by the vote of its patches besides.",
        claimed={8: 81.28},
        dataset="iam-writers50-paper",
        mean=0.0,
        std=1.0,
        patches=Patches(),
        validation=0,
        validation_split="validation",
        model="jin-writers",
        epochs=8,
        batch_size=16,
    )
)

BY_FORMS = declare(
    replace(
        WRITERS,
        name="jin-writers-by-forms",
        note="As jin-writers, but no form stands both in training and in test.",
        claimed={},
        dataset="iam-writers50",
    )
)

PHOTOS = declare(
    replace(
        WRITERS,
        name="jin-digit-photos",
        note="A few photographed lines of digits in place of IAM: too little to judge the network "
        "by. Writers have cameras and pens of their own, which tell them apart as well.",
        claimed={},
        dataset="digit-photos",
        validation_split="",
        epochs=40,
    )
)


def variants(recipe: Recipe) -> tuple[Recipe, ...]:
    """A recipe, the same without dropout, and with four convolutions."""
    plain = {"dropout": False}
    return (
        recipe,
        replace(recipe, name=f"{recipe.name}-no-dropout", claimed={}, model_options=plain),
        replace(recipe, name=f"{recipe.name}-4-layers", claimed={}, model_options={"layers": 4}),
    )


LABELS = "3 convolutions", "3 convolutions, no dropout", "4 convolutions"

TABLE = declare_table(
    Table(
        name="jin",
        title="Writers of IAM, told by patches of 113x113 pixels",
        paper=PAPER,
        note="Accuracy is that of patches.",
        rows=tuple(
            Row(label=f"{label}, {by}", recipe=recipe, claimed=recipe.claim())
            for by, first in (("split by sentences", WRITERS), ("split by forms", BY_FORMS))
            for label, recipe in zip(LABELS, variants(first))
        ),
        seeds=(0,),
    )
)

PHOTOS_TABLE = declare_table(
    Table(
        name="jin-digit-photos",
        title="Writers of photographed digits, told by patches of 113x113 pixels",
        paper=f"no paper's: the networks of {PAPER.partition(':')[0]} on other data",
        note="IAM is not to be had without registration; these few lines only show the networks at "
        "work. Writers have cameras and pens of their own. Accuracy is that of patches.",
        rows=tuple(
            Row(label=f"{label}, {by}", recipe=recipe)
            for by, first in (
                ("split by photographs", PHOTOS),
                (
                    "split by lines",
                    replace(PHOTOS, name="jin-digit-photos-by-lines", dataset="digit-photos-paper"),
                ),
            )
            for label, recipe in zip(LABELS, variants(first))
        ),
        seeds=(0, 1, 2),
    )
)
