"""P4: Zhang, "Handwritten digit recognition based on deep learning techniques"."""

from dataclasses import replace

from hwr.data.augment import PRESETS
from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Zhang: Handwritten digit recognition based on deep learning techniques"

CNN = declare(
    Recipe(
        name="zhang-cnn",
        paper=f"{PAPER}, CNN",
        note="The paper names no padding (none here) and no ranges of its rotation, translation, "
        "shear and scale: the preset `affine` stands for them.",
        claimed={10: 98.9},
        mean=0.0,  # pixels / 255
        std=1.0,
        augment=PRESETS["affine"],
        model="zhang-cnn",
        model_options={"padding": "valid"},
        epochs=10,
        batch_size=64,
    )
)

SIMPLE_RNN = declare(
    replace(
        CNN,
        name="zhang-simple-rnn",
        paper=f"{PAPER}, SimpleRNN",
        note="28 rows as 28 steps.",
        claimed={10: 96.7},
        augment=None,
        model="simple-rnn",
        model_options={},
        batch_size=32,
    )
)

EFFICIENTNET_B0 = declare(
    replace(
        CNN,
        name="zhang-efficientnet-b0",
        paper=f"{PAPER}, EfficientNet-B0",
        note="Not pretrained, 32x32 pixels of one channel. The paper's text says that it surpasses "
        "the CNN, its table says that the CNN wins.",
        claimed={10: 98.1},
        image_size=32,
        model="efficientnet-b0",
        model_options={},
        batch_size=128,
    )
)

TABLE = declare_table(
    Table(
        name="zhang",
        title="Three networks on MNIST, 10 epochs",
        paper=PAPER,
        note="The CNN and EfficientNet-B0 train on warped images (ranges: common practice, the "
        "paper gives none), the SimpleRNN on the images as they are.",
        rows=tuple(
            Row(label=label, recipe=recipe, claimed=recipe.claimed[10])
            for label, recipe in (
                ("CNN", CNN),
                ("SimpleRNN", SIMPLE_RNN),
                ("EfficientNet-B0", EFFICIENTNET_B0),
            )
        ),
    )
)
