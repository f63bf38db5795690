"""P0: Chi, Li and Huang, "Handwriting Recognition Based on Resnet-18"."""

from dataclasses import replace

from hwr.recipes.recipe import Recipe, declare

RESNET18 = declare(
    Recipe(
        name="chi2022-resnet18",
        paper="Chi, Li and Huang: Handwriting Recognition Based on Resnet-18, table 3",
        note="The paper names no optimiser, rate, batch or normalisation. Adam with a one-cycle "
        "schedule reaches its figures in its number of epochs; a constant rate does not.",
        claimed={2: 99.05, 5: 99.29, 10: 99.27, 15: 99.35},
        model="resnet18",
        model_options={"stem": "7x7", "width": 64},
        epochs=2,
        batch_size=128,
        lr=3e-3,
        schedule="one-cycle",
    )
)

CONSTANT = declare(
    replace(
        RESNET18,
        name="chi2022-resnet18-constant",
        note="The plainest completion of what the paper leaves out: Adam at a constant 1e-3.",
        batch_size=64,
        lr=1e-3,
        schedule="constant",
    )
)

SMALL_STEM = declare(
    replace(
        RESNET18,
        name="resnet18-small-images",
        paper="ResNet-18 with the stem for small images: 3x3, stride 1, no max-pool",
        note="Not in the paper: the same blocks without the two early halvings.",
        claimed={},
        model_options={"stem": "3x3", "width": 16},
    )
)
