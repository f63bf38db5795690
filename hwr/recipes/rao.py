"""P1d: Rao et al., Kannada characters."""

from dataclasses import replace

from hwr.data.augment import PRESETS, Augment
from hwr.recipes.chaurasia import CLASSIFIERS
from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Rao et al.: Kannada characters by a convolutional network"

CHARACTERS = declare(
    Recipe(
        name="rao-kannada",
        paper=f"{PAPER}, 657 classes of Chars74K",
        note="15 epochs as in the paper, which reports 95.11 % in training; it gives no layers.",
        claimed={15: 86.1},
        dataset="chars74k-kannada",
        mean=0.0,  # pixels / 255
        std=1.0,
        augment=PRESETS["affine"],
        validation=1314,  # two of a class
        model="rao-kannada",
        epochs=15,
        batch_size=64,
    )
)

DIGITS = declare(
    replace(
        CHARACTERS,
        name="rao-kannada-mnist",
        paper=f"{PAPER}; Kannada-MNIST in place of Chars74K",
        note="Not in the paper: digits, at their own 28x28 pixels. The test images are other "
        "writers', so the training images are warped by more.",
        claimed={},
        dataset="kannada-mnist",
        mean=0.08,
        std=0.24,
        augment=Augment(rotation_deg=15, translation=0.1, shear_deg=10, scale=0.2),
        validation=2000,
        epochs=10,
        batch_size=128,
        lr=2e-3,
        schedule="one-cycle",
        ema_decay=0.999,
    )
)

TABLE = declare_table(
    Table(
        name="rao",
        title="Kannada: characters and digits",
        paper=PAPER,
        note="Kannada-MNIST's training images are rebuilt from the author's scans, not the "
        "official files bit for bit; its 10,000 test images are official. Dig-MNIST is of other "
        "writers on other paper, and nothing was trained or chosen by it: how far the same network "
        "carries. Chars74K's characters, which the paper read, are split here by class.",
        rows=(
            *(
                Row(label=f"Kannada-MNIST, {kind}", recipe=DIGITS, classifier=classifier)
                for kind, classifier in CLASSIFIERS.items()
            ),
            Row(label="Dig-MNIST, CNN", recipe=DIGITS, test_on="dig-mnist"),
            Row(label="Chars74K, 657 characters", recipe=CHARACTERS, claimed=86.1),
        ),
        seeds=(0, 1),
    )
)
