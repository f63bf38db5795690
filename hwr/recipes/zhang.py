"""P4: Zhang, "Handwritten digit recognition based on deep learning techniques"."""

from dataclasses import replace

from hwr.data.augment import PRESETS
from hwr.recipes.recipe import Recipe, declare

CNN = declare(
    Recipe(
        name="zhang-cnn",
        paper="Zhang: Handwritten digit recognition based on deep learning techniques, CNN",
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
        paper="Zhang: Handwritten digit recognition based on deep learning techniques, SimpleRNN",
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
        paper="Zhang: Handwritten digit recognition based on deep learning techniques, "
        "EfficientNet-B0",
        note="Not pretrained, 32x32 pixels of one channel. The paper's text says that it surpasses "
        "the CNN, its table says that the CNN wins.",
        claimed={10: 98.1},
        image_size=32,
        model="efficientnet-b0",
        model_options={},
        batch_size=128,
    )
)
