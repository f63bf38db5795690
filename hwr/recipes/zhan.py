"""P1e: Zhan et al., strings of digits by dense blocks and CTC."""

from hwr.data.synthesis import Synthesis
from hwr.recipes.recipe import Recipe, declare

STRINGS = declare(
    Recipe(
        name="zhan-strings",
        paper="Zhan et al.: handwritten digit strings by dense blocks and CTC",
        note="The paper gives no sizes; this is a small network, for the CPU. Its strings are "
        "those of ORAND-CAR and CVL; these are composed of MNIST's digits, the strings held out "
        "and tested on of digits that are in no other.",
        mean=0.1,
        std=0.2,
        synthesis=Synthesis(),
        model="zhan-dense",
        model_options={"stem": 32, "layers": 4, "transition": 64},
        task="strings",
        epochs=4,
        batch_size=32,
        lr=3e-3,
        schedule="one-cycle",
    )
)
