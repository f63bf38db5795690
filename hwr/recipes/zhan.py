"""P1e: Zhan et al., strings of digits by dense blocks and CTC; and verification codes by the same.

Their networks are of one size, but for the height of the images.
"""

from hwr.data.augment import PRESETS, Augment
from hwr.data.lines import Canvas
from hwr.data.synthesis import Synthesis
from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Zhan et al.: handwritten digit strings by dense blocks and CTC"
# Most layers where the maps are smallest: a layer of the first block costs as much as 16 of the
# last one.
NETWORK = {"stem": 16, "layers": (1, 3, 4), "growth": 32, "transition": 96}

STRINGS = declare(
    Recipe(
        name="zhan-strings",
        paper=PAPER,
        note="The paper gives no sizes; this is a small network, for the CPU. Its strings are "
        "those of ORAND-CAR and CVL; these are composed of MNIST's digits, the strings held out "
        "and tested on of digits that are in no other.",
        mean=0.1,
        std=0.2,
        synthesis=Synthesis(),
        model="zhan-dense",
        model_options=NETWORK,
        task="strings",
        epochs=8,
        batch_size=16,
        lr=2e-3,
        schedule="one-cycle",
    )
)

ORAND_CAR_A = declare(
    Recipe(
        name="zhan-orand-car-a",
        paper=PAPER,
        note="The paper trains on the 2,009 official images of ORAND-CAR-A and tests on 3,784. "
        "These are 1,080 of its training images and 128 others, encoded again, whose digits "
        "somebody marked by boxes; the boxes are not used. It begins with the weights that "
        "composed strings trained.",
        dataset="orand-car-a-boxes",
        mean=0.1,  # as in its pretraining
        std=0.2,
        canvas=Canvas(width=192, fill=0.85),
        augment=PRESETS["line"],
        validation=100,
        model="zhan-dense",
        model_options=NETWORK,
        pretraining="zhan-strings",
        task="strings",
        epochs=20,
        batch_size=16,
        lr=1e-3,
        schedule="one-cycle",
    )
)

CAPTCHA = declare(
    Recipe(
        name="captcha",
        paper="no paper's: Chi, Li and Huang name verification codes as work to come",
        note="Generated codes of five symbols out of 19, a fifth of them held out to test on; the "
        "network is that for strings of digits.",
        dataset="captcha",
        mean=0.19,
        std=0.32,
        canvas=Canvas(height=40, width=160),
        augment=Augment(rotation_deg=1.5, translation=0.04, shear_deg=5, scale=0.05),
        validation=80,
        model="zhan-dense",
        model_options={**NETWORK, "height": 40},
        task="strings",
        epochs=40,
        batch_size=16,
        lr=2e-3,
        schedule="one-cycle",
    )
)

TABLE = declare_table(
    Table(
        name="zhan",
        title="Strings read without cutting them: composed ones, cheques and verification codes",
        paper=PAPER,
        note="Accuracy is that of whole strings. The paper's figure is for the official test "
        "images of ORAND-CAR-A, which are not these; nobody claims anything for the other rows.",
        rows=(
            Row(label="strings of MNIST's digits", recipe=STRINGS),
            Row(label="ORAND-CAR-A, 128 images held out", recipe=ORAND_CAR_A, claimed=92.20),
            Row(label="verification codes", recipe=CAPTCHA),
        ),
        seeds=(0,),
    )
)
