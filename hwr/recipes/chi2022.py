"""P0: Chi, Li and Huang, "Handwriting Recognition Based on Resnet-18"."""

from dataclasses import replace

from hwr.recipes.recipe import Recipe, declare
from hwr.recipes.table import Row, Table, declare_table

PAPER = "Chi, Li and Huang: Handwriting Recognition Based on Resnet-18"

RESNET18 = declare(
    Recipe(
        name="chi2022-resnet18",
        paper=f"{PAPER}, table 3",
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

PLAIN = declare(
    replace(
        RESNET18,
        name="plain18",
        paper="The same network without its shortcuts",
        note="Not in the paper: shows what the shortcuts are worth at 18 layers.",
        claimed={},
        model="plain18",
    )
)


def table(number: int, claims: dict[int, tuple[float, float]]) -> Table:
    """Table 3 or 4: accuracy in % and training loss by epochs, a run for each number of epochs."""
    rows = (
        Row(
            label=f"{epochs} epochs",
            recipe=replace(RESNET18, epochs=epochs),
            claimed=accuracy,
            claimed_loss=loss,
        )
        for epochs, (accuracy, loss) in claims.items()
    )
    return declare_table(
        Table(
            name=f"chi2022-table{number}",
            title=f"ResNet-18 on MNIST, table {number}",
            paper=PAPER,
            note="Separate runs: the one-cycle schedule of each ends at its last epoch. The "
            "paper's tables 3 and 4 are two runs of one experiment; the same runs here, of "
            "several seeds, stand beside both. 55,000 images train, 5,000 validate.",
            rows=tuple(rows),
        )
    )


TABLE_3 = table(3, {2: (99.05, 0.0839), 5: (99.29, 0.0055), 10: (99.27, 0.0012), 15: (99.35, 3e-4)})
TABLE_4 = table(4, {2: (99.05, 0.0180), 5: (99.29, 0.0053), 10: (99.40, 0.0013), 15: (99.42, 2e-4)})

ABLATIONS = declare_table(
    Table(
        name="chi2022-ablations",
        title="ResNet-18 on MNIST, without what the paper leaves open",
        paper=PAPER,
        note='Two epochs each. The paper trains on "10000 images" in one place and lists 70,000 '
        "in another; a constant rate is the plainest reading of its silence on the schedule.",
        rows=(
            Row(label="as in table 3", recipe=RESNET18, claimed=99.05),
            Row(label="constant rate 1e-3, batch 64", recipe=CONSTANT, claimed=99.05),
            Row(label="10,000 training images", recipe=RESNET18, train_size=10_000),
            Row(label="no shortcuts (plain-18)", recipe=PLAIN),
        ),
    )
)
