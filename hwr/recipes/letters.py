"""Letters, which the ResNet-18 paper (P0) names as its next step: 62 and 36 classes."""

from dataclasses import replace

from hwr.data.augment import PRESETS
from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Letters and digits, photographed; no paper's, P0 names letters as future work"

LETTERS = declare(
    Recipe(
        name="letters",
        paper=f"{PAPER}, 62 classes",
        note="Letters are never mirrored: a b would be a d.",
        dataset="photo-alnum62",
        mean=0.05,
        std=0.16,
        augment=PRESETS["affine"],
        validation=460,
        model="chaurasia-cnn",
        epochs=20,
        batch_size=64,
        lr=3e-3,
        schedule="one-cycle",
    )
)

MERGED = declare(
    replace(
        LETTERS,
        name="letters-merged",
        paper=f"{PAPER}, 36 classes, case ignored",
        dataset="photo-alnum36",
    )
)

TABLE = declare_table(
    Table(
        name="letters",
        title="Photographed letters and digits",
        paper=PAPER,
        note="The same few writers stand on both sides of the split, which is made here after "
        "repeated pictures were left out: the figures say little about other writers. A picture "
        "holds one character alone, so c and C, o, O and 0 and the like cannot be told apart.",
        rows=(
            Row(label="62 classes", recipe=LETTERS),
            Row(label="36 classes, case ignored", recipe=MERGED),
        ),
    )
)
