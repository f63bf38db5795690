"""A recipe of hwr trained by PyTorch, as `hwr.train` trains it: the other side of `end_to_end`.

Data, order of the batches, model, optimiser, schedule, validation and test are the recipe's. Two
things differ: PyTorch draws its own initial weights, and no checkpoint is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import nn

from benchmarks.torch_models import create
from benchmarks.works import Work
from hwr import command
from hwr.config import Config
from hwr.data import Loader, Normalize
from hwr.errors import UserError
from hwr.evaluate import reading_loader, split_loader
from hwr.options import configure, parser
from hwr.progress import Progress
from hwr.recipes import Recipe
from hwr.run import epoch_batches, split_data
from hwr.statistics import describe_accuracy

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says (hwr.train's options), and test."""
    p = parser()
    p.prog, p.description = "python -m benchmarks.torch_recipe", "Train a recipe with PyTorch."
    p.add_argument("--memory-format", choices=["contiguous", "channels_last"])
    p.add_argument("--device", choices=["cpu", "cuda"])
    typed = vars(p.parse_args(argv))
    device = typed.pop("device", "cpu")
    layout = {"contiguous": torch.contiguous_format}.get(
        typed.pop("memory_format", "channels_last"), torch.channels_last
    )
    config = configure(typed)
    recipe = config.recipe
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    train, held_out = split_data(config)
    normalize = Normalize(recipe.mean, recipe.std)
    loader = Loader(
        train, recipe.batch_size, seed=config.seed, normalize=normalize, shuffle=True
    )  # fmt: skip
    model = network(recipe).to(device, memory_format=layout)
    validation = reading_loader(config.recipe, held_out) if held_out else None
    fit(config, model, loader, validation, layout)
    correct, total = measure(model, split_loader(config, "test"), layout)
    print(f"test accuracy {describe_accuracy(correct, total)}", flush=True)
    return 0


def network(recipe: Recipe) -> nn.Module:
    """The recipe's model. UserError for one that is not written in PyTorch here."""
    work = Work(
        name=recipe.name,
        model=recipe.model,
        batch=recipe.batch_size,
        options=recipe.model_options,
    )
    try:
        return create(work)
    except KeyError:
        raise UserError(f"benchmarks/torch_models.py has no model {recipe.model!r}") from None


def fit(
    config: Config,
    model: nn.Module,
    loader: Loader,
    validation: Loader | None,
    layout: torch.memory_format,
) -> None:
    """All epochs, each validated."""
    recipe = config.recipe
    batches = epoch_batches(config, loader)
    optimizer, schedule = updates(recipe, model, batches * recipe.epochs)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    for epoch in range(recipe.epochs):
        model.train()
        with Progress(f"epoch {epoch + 1}/{recipe.epochs}", batches * loader.batch_size) as bar:
            for images, labels in islice(tensors(loader, epoch, layout, device_of(model)), batches):
                loss = loss_of(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update(len(labels))
        if validation is not None:
            correct, total = measure(model, validation, layout)
            accuracy = 100 * correct / total
            print(f"epoch {epoch + 1}: validation accuracy {accuracy:.2f} %", flush=True)


def updates(
    recipe: Recipe, model: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The recipe's optimiser, fused (PyTorch's fastest), and its schedule."""
    if recipe.optimizer not in OPTIMIZERS or recipe.schedule not in ("constant", "one-cycle"):
        raise UserError(
            f"{recipe.name}: {recipe.optimizer} with schedule {recipe.schedule} is not written "
            f"here; there are {', '.join(OPTIMIZERS)}, constant and one-cycle"
        )
    options = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[recipe.optimizer](
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True, **options
    )
    if recipe.schedule == "constant":
        return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, steps, pct_start=recipe.warmup, cycle_momentum=False
    )


def tensors(
    loader: Loader, epoch: int, layout: torch.memory_format, device: torch.device
) -> Batches:
    """The loader's batches on a device, images NCHW in a memory format."""
    for images, labels in loader.epoch(epoch):
        nchw = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        classes = torch.from_numpy(np.ascontiguousarray(labels)).to(device)
        yield nchw.contiguous(memory_format=layout), classes


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters lie."""
    return next(model.parameters()).device


@torch.inference_mode()
def measure(model: nn.Module, loader: Loader, layout: torch.memory_format) -> tuple[int, int]:
    """How many images are read right, and of how many."""
    model.eval()
    correct = sum(
        int((model(images).argmax(1) == labels).sum())
        for images, labels in tensors(loader, 0, layout, device_of(model))
    )
    return correct, len(loader.dataset)


if __name__ == "__main__":
    command.run("benchmarks.torch_recipe", main)
