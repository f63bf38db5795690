"""P2: Arora and Bhatia, "Handwriting recognition using Deep Learning in Keras"."""

from dataclasses import replace

from hwr.recipes.recipe import Recipe, declare

FEED_FORWARD = declare(
    Recipe(
        name="arora-feedforward",
        paper="Arora and Bhatia: Handwriting recognition using Deep Learning in Keras",
        note="784-512-512-10 with SGD as in the paper; it names neither rate nor batch. Its "
        "equation 2 is squared error while its text says cross-entropy: cross-entropy here.",
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
