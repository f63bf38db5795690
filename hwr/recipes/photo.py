"""The network that ships with the package and reads photographs; no paper's."""

from hwr.data.augment import Augment
from hwr.recipes.recipe import Recipe, declare

PHOTO = declare(
    Recipe(
        name="photo",
        paper="The shipped reader of photographs (no paper's): MNIST photographed, and no digits",
        note="Ten digits and an eleventh class for what must be refused.",
        dataset="photo-digits",
        mean=0.0,  # pixels / 255
        std=1.0,
        augment=Augment(rotation_deg=4, translation=0.03, shear_deg=4, scale=0.06),
        validation=0,
        validation_split="validation",
        model="photo-cnn",
        epochs=8,
        batch_size=128,
        optimizer="adamw",
        lr=4e-3,
        weight_decay=1e-3,
        schedule="one-cycle",
        warmup=0.1,
        label_smoothing=0.03,
        ema_decay=0.999,
    )
)
