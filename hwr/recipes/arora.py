"""P2: Arora and Bhatia, "Handwriting recognition using Deep Learning in Keras"."""

from dataclasses import replace

from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Arora and Bhatia: Handwriting recognition using Deep Learning in Keras"

FEED_FORWARD = declare(
    Recipe(
        name="arora-feedforward",
        paper=PAPER,
        note="784-512-512-10 with SGD as in the paper; it names neither rate nor batch. Its "
        "equation 2 is squared error while its text says cross-entropy: cross-entropy here, "
        "squared error by --task classification-mse.",
        claimed={5: 90.0, 20: 93.76},
        mean=0.0,  # pixels / 255
        std=1.0,
        model="mlp",
        epochs=5,
        batch_size=256,
        optimizer="sgd",
        lr=0.01,
    )
)

CNN = declare(
    replace(
        FEED_FORWARD,
        name="arora-cnn",
        note="The paper names the kinds of layers (convolution, ReLU, max-pool) and SGD, but no "
        "sizes, rate or batch: the sizes are of Keras's MNIST example.",
        claimed={5: 95.63, 20: 99.20},
        model="arora-cnn",
    )
)

TABLE = declare_table(
    Table(
        name="arora",
        title="Feed-forward and convolutional network on MNIST",
        paper=PAPER,
        note="One run of 20 epochs for each network and seed, measured after epochs 5 and 20: its "
        "rate is constant, so the first 5 epochs are those of a run of 5.",
        rows=tuple(
            Row(
                label=f"{kind}, {epoch} epochs",
                recipe=replace(recipe, epochs=20),
                epoch=epoch,
                claimed=recipe.claimed[epoch],
            )
            for kind, recipe in (("feed-forward", FEED_FORWARD), ("CNN", CNN))
            for epoch in (5, 20)
        ),
    )
)
