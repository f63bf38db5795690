"""The quickest way to 99.3 % here; no paper's."""

from hwr.recipes.recipe import Recipe, declare

FAST = declare(
    Recipe(
        name="fast",
        paper="A small convolutional network with batch normalisation; no paper's",
        model="fast",
        epochs=2,
        batch_size=256,
        optimizer="adamw",
        lr=1e-2,
        schedule="one-cycle",
        warmup=0.25,
    )
)
