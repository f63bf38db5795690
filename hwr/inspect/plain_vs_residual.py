"""What the shortcut does: networks with and without it, trained alike and drawn side by side."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

import tinynn as tn
from hwr import command, data, models
from hwr.data import Dataset, Loader
from hwr.errors import UserError
from hwr.files import write_atomic
from hwr.inspect.shortcuts import norm, opened
from hwr.machine import machine
from hwr.models.resnet import DEPTHS
from hwr.progress import Progress, clock
from hwr.recipes import DEFAULT, recipes
from hwr.report.document import Document, Heading, Paragraph, Picture, Table
from hwr.report.style import FLOOR, GRID, INSTALL, OURS, THEIRS, draw_png, installed, plain
from tinynn import functional as F
from tinynn import nn, optim
from tinynn.kernels.threads import usable_cpus
from tinynn.nn import Module

FLAG = "--plain-vs-residual"
KINDS = {"plain": THEIRS, "resnet": OURS}  # by the first part of the models' names
CLASSES = 10
LAST_STEPS = 0.1  # share of the steps whose mean is called the loss at the end


@dataclass(frozen=True)
class Trained:
    """One network's training.

    `losses` in nats, one a step; fewer than were asked for if the next one was not finite.
    `layers[i]` weight layers lie between the image and the place where `start[i]` and `end[i]` =
    ||dL/dx|| are measured, before and after training: the first block's input and every block's
    output. `end` is empty if it is not finite.
    """

    name: str
    depth: int
    parameters: int
    losses: list[float]
    layers: list[int]
    start: list[float]
    end: list[float]
    seconds: float

    @property
    def last_loss(self) -> float:
        """The mean loss of the last steps."""
        return float(np.mean(self.losses[-max(1, round(LAST_STEPS * len(self.losses))) :]))


def growth(gradients: Sequence[float]) -> float:
    """The gradient at the first block's input over that at the last block's output."""
    return gradients[0] / gradients[-1]


def times(gradients: Sequence[float]) -> str:
    """The growth as pages show it."""
    value = growth(gradients)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=f"python -m hwr.inspect {FLAG}",
        description="Train networks with and without shortcuts from one seed, on the same batches "
        "in the same order, and draw their gradients by depth and their losses. The defaults take "
        "some 3 minutes on two cores: the paper's stem and batch, a quarter of its width.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument(FLAG, action="store_true", help="this comparison", default=argparse.SUPPRESS)
    p.add_argument(
        "--depth", metavar="N", nargs="+", type=int, choices=list(DEPTHS),
        default=list(DEPTHS), help=f"numbers of layers, from {', '.join(map(str, DEPTHS))}",
    )  # fmt: skip
    p.add_argument("--steps", metavar="N", type=command.count(1), default=300, help="of each")
    p.add_argument("--batch-size", metavar="N", type=command.count(2), default=64, help="images")
    p.add_argument("--lr", metavar="LR", type=command.number(0), default=1e-3, help="of Adam")
    p.add_argument("--width", metavar="N", type=command.count(1), default=16, help="of stage one")
    p.add_argument("--stem", choices=["7x7", "3x3"], default="7x7", help="the first layer")
    p.add_argument("--seed", metavar="N", type=command.count(0), default=0, help="of everything")
    p.add_argument("--train-size", metavar="N", type=command.count(2), help="all if not given")
    p.add_argument("--threads", metavar="N", type=command.count(1), default=usable_cpus(),
                   help="threads the kernels use")  # fmt: skip
    p.add_argument("--data-dir", metavar="DIR", type=Path, help="folder of the data")
    p.add_argument("--output-dir", metavar="DIR", type=Path,
                   default=Path("runs/plain-vs-residual"), help="folder of the page")  # fmt: skip
    return p


def main(argv: Sequence[str]) -> int:
    """Train, and write the page. Nothing is written before the last network is trained."""
    args = parser().parse_args(argv)
    args.depth = sorted(set(args.depth))
    command.set_threads(args.threads)
    recipe = recipes.get(DEFAULT)
    dataset = data.load(recipe.dataset, split="train", data_dir=args.data_dir)
    loader = Loader(
        subset(dataset, args.train_size, args.seed),
        args.batch_size,
        seed=args.seed,
        normalize=data.Normalize(recipe.mean, recipe.std),
        shuffle=True,
        drop_last=True,
    )
    settings = ("steps", "batch_size", "lr", "width", "stem", "seed", "train_size", "threads")
    values = {name: getattr(args, name) for name in settings}
    values |= {"dataset": recipe.dataset, "optimizer": "adam", "machine": machine()}
    found = compare(args, loader)
    document = page(values, found)
    document.write(args.output_dir, "plain-vs-residual")
    path = args.output_dir / "plain-vs-residual.json"
    networks = [asdict(each) for each in found]
    write_atomic(path, json.dumps(values | {"networks": networks}) + "\n")
    if not installed():
        print(f"no pictures: matplotlib is not installed; {INSTALL}", file=sys.stderr)
    print(f"page: {path.with_suffix('.html')}")
    return 0


def subset(dataset: Dataset, size: int | None, seed: int) -> Dataset:
    """`size` random images, all for None. UserError if there are not so many."""
    if size is None:
        return dataset
    if size > len(dataset):
        raise UserError(
            f"--train-size {size} is more than the {len(dataset)} images of {dataset.name} "
            f"{dataset.split}"
        )
    order = np.random.default_rng([seed, 0, 0, 1]).permutation(len(dataset))
    return dataset.subset(np.sort(order[:size]))


def compare(args: argparse.Namespace, loader: Loader) -> list[Trained]:
    """Train every network, one after the other."""
    total = len(KINDS) * args.steps * sum(args.depth)
    found = []
    with Progress(f"training {len(KINDS) * len(args.depth)} networks", total, unit="layers") as bar:
        for depth in args.depth:
            for kind in KINDS:
                trained = train(f"{kind}{depth}", depth, args, loader, bar)
                found.append(trained)
                print(
                    f"{trained.name}: the gradient grows {times(trained.start)} times on "
                    f"its way to the first block; loss {trained.losses[0]:.3f}, at the end "
                    f"{trained.last_loss:.3f}; {clock(trained.seconds)}",
                    flush=True,
                )
    return found


@np.errstate(all="ignore")  # a network that diverges shows it in its loss
def train(
    name: str, depth: int, args: argparse.Namespace, loader: Loader, bar: Progress
) -> Trained:
    """Train one network for `--steps` steps, and measure its gradients before and after."""
    model = models.create(name, stem=args.stem, width=args.width, seed=args.seed).train()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    first = next(iter(loader.epoch(0)))
    layers, start = gradient_by_depth(model, *first)
    began, losses = bar.seconds, list[float]()
    for images, labels in islice(batches(loader), args.steps):
        loss = F.cross_entropy(model(tn.Tensor(images)), labels)
        if not math.isfinite(loss.item()):
            break
        losses.append(float(loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.update(depth, loss=losses[-1])
    seconds = bar.seconds - began
    _, end = gradient_by_depth(model, *first)
    end = end if np.isfinite(end).all() else []
    parameters = sum(p.size for p in model.parameters())
    return Trained(name, depth, parameters, losses, layers, start, end, seconds)


def batches(loader: Loader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Epoch after epoch without an end."""
    for epoch in count():
        yield from loader.epoch(epoch)


def gradient_by_depth(
    model: Module, images: np.ndarray, labels: np.ndarray
) -> tuple[list[int], list[float]]:
    """||dL/dx|| at the first block's input and at every block's output, for a batch in training
    mode; and how many weight layers lie before each. The model is left as it was."""
    state = model.state_dict()
    with opened(model) as passages:
        F.cross_entropy(model(tn.Tensor(images)), labels).backward()
    model.zero_grad()
    model.load_state_dict(state)  # the running statistics
    blocks = list(passages.values())
    layers = [1]
    for block in blocks:
        layers.append(layers[-1] + len(branch_convolutions(block.block)))
    return layers, [norm(blocks[0].x.grad), *(norm(block.y.grad) for block in blocks)]


def branch_convolutions(block: Module) -> list[str]:
    """The convolutions of a block's branch: those that count towards the depth."""
    named = block.named_modules()
    return [n for n, m in named if isinstance(m, nn.Conv2d) and not n.startswith("downsample")]


def page(settings: dict[str, Any], found: Sequence[Trained]) -> Document:
    """The page: the picture, the table and how it was measured."""
    depths = ", ".join(str(d) for d in sorted({each.depth for each in found}))
    document = Document("Plain and residual networks")
    document.add(
        Paragraph(
            f"Networks of {depths} layers with shortcuts (`resnet`) and without (`plain`), "
            "otherwise the same, batch norm in both, as He et al. 2015 compare them (section "
            "4.1). All are trained from one seed on the same batches in the same order: "
            f"{settings['steps']} steps of Adam at {settings['lr']:g}, batch "
            f"{settings['batch_size']}, {settings['dataset']}, stem {settings['stem']}, width "
            f"{settings['width']}, seed {settings['seed']}. One seed: the figures show what "
            "happens, not how much it varies."
        ),
        Paragraph(
            "Batch norm keeps the values of a plain network from growing or vanishing, but not its "
            "gradient: on the way back to the image this grows at every layer by about the same "
            "factor, some 1.2 in theory for ReLU (Yang et al. 2019, A Mean Field Theory of Batch "
            "Normalization), so that many layers make it large in the first ones beside the last. "
            "A shortcut hands a part of the gradient on unchanged, and the factor is nearer to 1."
        ),
    )
    if installed():
        caption = (
            "Top: the norm of the gradient between the blocks, over all elements of the first "
            "batch, in training mode; the loss is at the right end, so the gradient runs from "
            "right to left. Bottom: the training loss, each point the mean of the steps about it; "
            "the dotted line is the loss of guessing."
        )
        document.add(Picture("plain-vs-residual.png", draw_png(draw, found), caption))
    document.add(Heading("Figures"), table(found))
    return document


def table(found: Sequence[Trained]) -> Table:
    """Every network's figures."""
    header = ["network", "parameters", "gradient growth", "a layer", "after training"]
    header += ["first loss", "last loss", "steps", "seconds"]
    rows = []
    for each in found:
        layers = each.layers[-1] - each.layers[0]
        row = [f"`{each.name}`", f"{each.parameters:,}", times(each.start)]
        row += [f"{growth(each.start) ** (1 / layers):.3f}"]
        row += [times(each.end) if each.end else ""]
        row += [f"{each.losses[0]:.3f}", f"{each.last_loss:.3f}"]
        rows.append([*row, f"{len(each.losses):,}", f"{each.seconds:.0f}"])
    caption = (
        "Growth: the norm of the gradient at the first block's input over that at the last block's "
        "output, before training; the same a layer; and after training. The last loss is the mean "
        f"over the last {100 * LAST_STEPS:.0f} % of the steps. Fewer steps than were asked for "
        "mean that the loss was no longer finite."
    )
    return Table(header, rows, caption)


def draw(figure: Any, found: Sequence[Trained]) -> None:
    """A column for each depth: gradients above, losses below."""
    depths = sorted({each.depth for each in found})
    figure.set_size_inches(1.2 + 3.1 * len(depths), 6.2)
    panels = figure.subplots(2, len(depths), squeeze=False, sharey="row")
    for column, depth in enumerate(depths):
        above, below = (plain(axes) for axes in panels[:, column])
        for each in (each for each in found if each.depth == depth):
            color = KINDS[each.name.removesuffix(str(depth))]
            above.plot(each.layers, each.start, "o-", color=color, ms=3.5, lw=1.4)
            above.plot(
                each.layers[: len(each.end)],
                each.end,
                "o--",
                color=color,
                ms=3.5,
                lw=1,
                mfc="white",
            )
            steps = np.arange(1, len(each.losses) + 1)
            below.plot(steps, each.losses, color=color, lw=0.5, alpha=0.25)
            below.plot(steps, smooth(each.losses), color=color, lw=1.8)
        above.set_yscale("log")
        above.grid(axis="y", color=GRID, lw=0.6)
        above.set_title(f"{depth} layers", loc="left", fontsize=11)
        above.set_xlabel("layers passed since the image", fontsize=9)
        below.axhline(math.log(CLASSES), color=FLOOR, lw=1, ls=":")
        below.set_xlabel("step", fontsize=9)
    panels[1, 0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("‖dL/dx‖")
    panels[1, 0].set_ylabel("training loss, nats")
    for kind, color in KINDS.items():
        panels[0, 0].plot([], [], color=color, lw=3, label=kind)
    for style, label in (("o-", "before training"), ("o--", "after")):
        panels[0, 0].plot([], [], style, color=FLOOR, ms=3.5, lw=1, label=label,
                          mfc=FLOOR if style == "o-" else "white")  # fmt: skip
    panels[0, 0].legend(frameon=False, fontsize=8)


def smooth(losses: Sequence[float]) -> np.ndarray:
    """The mean over a window of a twentieth of the steps about each."""
    window = max(1, len(losses) // 20)
    ones = np.ones(window)
    weights = np.convolve(np.ones(len(losses)), ones, "same")
    return np.convolve(losses, ones, "same") / weights
