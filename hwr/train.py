"""Train a network: `python -m hwr.train` trains the paper's ResNet-18 on the MNIST inside.

Read `fit` first: it is the whole of training.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

import tinynn as tn
from hwr import checkpoint, command
from hwr.config import Config, make_ema
from hwr.errors import UserError
from hwr.evaluate import create_model, evaluate
from hwr.interrupts import Interrupted, catch_interrupts
from hwr.options import configure, free_folder, parser, resumed
from hwr.progress import Progress, clock
from hwr.run import Diverged, Run, prepare
from hwr.statistics import describe_accuracy
from hwr.tasks import Result
from tinynn.backend import Array

READ_LOSS_EVERY = 10  # steps; reading it more often would make a GPU wait


def train_step(run: Run, images: Array, labels: Array) -> tuple[tn.Tensor, tn.Tensor]:
    """One update from one batch. Returns the loss and what the images were read as.

    All of it is the device's work, so that `tn.capture` can record it.
    """
    output = run.model(tn.Tensor(images))
    loss = run.task.loss(output, labels, label_smoothing=run.config.recipe.label_smoothing)
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    if run.ema is not None:
        run.ema.update()
    return loss, run.task.read(output)


def captured_step(run: Run) -> Callable[..., tuple[tn.Tensor, ...]]:
    """`train_step` of a run, on a GPU recorded as one graph unless the user said otherwise."""
    step = partial(train_step, run)
    if not run.config.capture:
        return step
    rows = min(run.loader.batch_size, len(run.loader.dataset))
    example = [np.broadcast_to(a, (rows, *a.shape[1:])) for a in run.loader.first()]
    return tn.capture(step, example, model=run.model)


@np.errstate(all="ignore")  # overflow shows in the loss, where Run.check looks for it
def fit(run: Run, folder: Path, interrupted: Interrupted, save_every: float) -> bool:
    """Train to the last epoch. Returns False if it was interrupted (and saved) before."""
    last_save = time.monotonic()
    step = captured_step(run)
    while not run.finished:
        run.model.train()
        batches = islice(run.loader.epoch(run.epoch, run.batch), run.batches - run.batch)
        label = f"epoch {run.epoch + 1}/{run.config.recipe.epochs}"
        size = run.loader.batch_size
        total = min(run.batches * size, len(run.loader.dataset))
        with Progress(label, total, run.batch * size) as progress:
            for images, labels in batches:
                loss, read = step(images, labels)
                run.schedule.step()
                run.step += 1
                run.batch += 1
                run.pending.append((labels, loss.detach(), read))
                if run.step % READ_LOSS_EVERY == 0 or not run.images:
                    run.read_losses()
                progress.update(len(labels), loss=run.mean_loss)
                if interrupted or time.monotonic() - last_save > save_every:
                    run.save(folder)
                    last_save = time.monotonic()
                if interrupted:
                    return False
        end_epoch(run, folder, progress)
        last_save = time.monotonic()
        if interrupted and not run.finished:
            return False
    return True


def end_epoch(run: Run, folder: Path, progress: Progress) -> None:
    """Validate, keep the best weights, report the epoch and save."""
    recipe = run.config.recipe
    run.check()
    seconds, rate = progress.seconds, progress.rate
    figures = {
        "epoch": run.epoch + 1,
        "step": run.step,
        "train_loss": run.mean_loss,
        "train_accuracy": run.train_accuracy,
        "lr": run.optimizer.param_groups[0].lr,
    }
    run.start_epoch(run.epoch + 1)
    line = (
        f"epoch {run.epoch}/{recipe.epochs}: training loss {figures['train_loss']:.4f}, "
        f"accuracy {100 * figures['train_accuracy']:.2f} %"
    )
    if run.validation is not None:
        with checkpoint.averaged(run.ema):
            result = evaluate(run.model, run.validation, "validating", task=run.task)
        if not math.isfinite(result.loss):
            raise Diverged(f"the validation loss is {result.loss} after step {run.step}")
        figures |= {"validation_loss": result.loss, "validation_accuracy": result.accuracy}
        line += f"; validation loss {result.loss:.4f}, accuracy {100 * result.accuracy:.2f} %"
    else:
        result = None
    if result is None or is_better(result, run.best):
        run.best = {"epoch": run.epoch}
        if result is not None:
            run.best |= {"accuracy": result.accuracy, "loss": result.loss}
        with checkpoint.averaged(run.ema):
            checkpoint.save_weights(folder / checkpoint.BEST, run.model, run.best)
    if run.epoch in run.config.keep_epochs:
        with checkpoint.averaged(run.ema):
            path = folder / checkpoint.kept(run.epoch)
            checkpoint.save_weights(path, run.model, {"epoch": run.epoch})
    figures |= {"images_per_s": rate, "seconds": seconds}
    checkpoint.log(folder, **figures)  # before saving: a resumed run drops what is not saved
    line += f"; {rate:,.0f} images/s, {clock(seconds)}"
    if run.finished and recipe.patience:
        with checkpoint.averaged(run.ema):
            checkpoint.load(folder / checkpoint.BEST, run.model)
        line += f"\nthe weights of epoch {run.best['epoch']} are kept: they validated best"
    run.save(folder)
    print(line, flush=True)


def is_better(result: Result, best: dict[str, float]) -> bool:
    """Whether a validation result beats the best so far: accuracy first, then loss.

    The test images have no say.
    """
    if not best:
        return True
    return (result.accuracy, -result.loss) > (best["accuracy"], -best["loss"])


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says."""
    typed = vars(parser().parse_args(argv))
    if typed.get("list_recipes"):
        from hwr.listing import list_recipes

        return list_recipes()
    found = resumed(typed) if "resume" in typed else None
    config = found[1] if found else configure(typed)
    command.check_backend(config.backend, "allow_reference" in typed)
    if typed.get("amp") and not tn.get_backend(config.backend).has_device:
        raise UserError(
            f"--amp is for a GPU, and backend {config.backend} computes in float32 on the CPU; "
            "leave it out, or choose --backend cupy"
        )
    command.set_threads(config.threads)
    with tn.use_backend(config.backend), precision(config):
        run = prepare(config)
        if typed.get("dry_run"):
            from hwr.summary import dry_run

            return dry_run(run, train_step)
        folder = found[0] if found else typed.get("output_dir") or free_folder(config.recipe.name)
        return train(run, folder, is_new=found is None, save_every=typed.get("save_every", 120.0))


@contextmanager
def precision(config: Config) -> Iterator[None]:
    """Within the block a GPU multiplies as the run says; a CPU computes in float32 anyway."""
    before = tn.get_float32_matmul_precision()
    if config.amp:
        tn.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        tn.set_float32_matmul_precision(before)


def train(run: Run, folder: Path, *, is_new: bool, save_every: float) -> int:
    """Train from the start or from the last checkpoint, and test. Returns the exit code."""
    began, too_much = time.monotonic(), ""
    with catch_interrupts() as interrupted:
        start(run, folder, is_new)
        try:
            done = fit(run, folder, interrupted, save_every)
        except Diverged as error:
            at = checkpoint.progress_of(folder)["step"]
            print(
                f"hwr.train: {error}; training stopped. {folder / checkpoint.LAST} holds the "
                f"weights of step {at}. Try a lower --lr than {run.config.recipe.lr:g}.",
                file=sys.stderr,
            )
            return 1
        except MemoryError as error:
            too_much = str(error)  # not the error: it would keep the arrays that fill the memory
    if too_much:
        raise MemoryError(f"{too_much}; {what_fits(run)}")
    if not done:
        print(
            f"stopped at step {run.step} (epoch {run.epoch + 1}, batch {run.batch}) and "
            f"saved; go on by\n  python -m hwr.train --resume {folder}"
        )
        return 130
    finish(run, folder, time.monotonic() - began)
    return 0


def what_fits(run: Run) -> str:
    """Which batch a step has room for, found by trying: half as many images again and again."""
    whole = run.config.recipe.batch_size
    (image, label), rows = run.loader.first(), whole
    while rows := rows // 2:
        images, labels = (np.repeat(a, rows, axis=0) for a in (image, label))
        try:
            train_step(run, images, labels)
            return f"the batch is {whole} images, and {rows} fit"
        except (MemoryError, ValueError):  # or too few for the model to train on
            continue
    return f"the batch is {whole} images, and not even one fits"


def start(run: Run, folder: Path, is_new: bool) -> None:
    """Make the run folder or read the checkpoint to go on from; say what will run."""
    recipe, facts = run.config.recipe, run.config.facts
    path = folder / checkpoint.LAST
    if is_new:  # read first: what is wrong with them must leave no folder behind
        load_initial_weights(run)
        checkpoint.create_run(folder, run.config)
    if path.exists():
        progress = checkpoint.load(path, run.model, run.optimizer, run.ema)
        try:
            run.restore(progress)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: its metadata do not say where training stood ({error})"
            ) from None
    else:
        if not is_new:  # it was stopped before its first checkpoint
            load_initial_weights(run)
        run.save(folder)
    checkpoint.rewind_metrics(folder, run.epoch)
    checkpoint.remove_leftovers(folder)
    held_out = f", {len(run.validation.dataset):,} held out" if run.validation else ""
    note = f" ({facts['data_note']})" if facts["data_note"] else ""
    print(
        f"{recipe.name}: {recipe.network}, {facts['parameters']:,} parameters\n"
        f"{recipe.dataset}: {facts['train_images']:,} images to train{held_out}{note}\n"
        f"epochs {recipe.epochs}, batches an epoch {run.batches:,}, "
        f"batch size {recipe.batch_size}, {recipe.optimizer} at {recipe.lr:g} ({recipe.schedule}), "
        f"seed {run.config.seed}, backend {run.config.backend}, threads {run.config.threads}\n"
        + (f"{recipe.refinements}\n" if recipe.refinements else "")
        + (f"initial weights: {initial}\n" if (initial := run.config.initial_weights) else "")
        + f"folder: {folder}"
    )
    if not is_new:
        print(f"resuming at step {run.step} (epoch {run.epoch + 1}, batch {run.batch})")
    sys.stdout.flush()


def load_initial_weights(run: Run) -> None:
    """Begin with the weights of the run that the configuration names, if it names one."""
    if run.config.initial_weights is None:
        return
    folder = Path(run.config.initial_weights)
    if not (folder / checkpoint.LAST).exists():
        named = run.config.recipe.pretraining
        how = f"python -m hwr.train --recipe {named}" if named else "python -m hwr.train"
        raise UserError(
            f"{folder} holds no trained weights to begin with; train them first: {how}, or name "
            "another run by --initial-weights"
        )
    checkpoint.load(folder / checkpoint.LAST, run.model)
    run.ema = make_ema(run.config.recipe, run.model)


def finish(run: Run, folder: Path, seconds: float) -> None:
    """Measure the weights that were kept, and the last, on the test images; say what to do next."""
    for epoch in run.config.keep_epochs:
        if (folder / checkpoint.kept(epoch)).exists():  # not if training ended early
            measure(run, folder, checkpoint.kept(epoch), epoch)
    result = measure(run, folder, checkpoint.LAST, run.epoch)
    recipe = run.config.recipe
    print(f"test {result.measure} {describe_accuracy(result.correct, result.total)}", end="")
    claim = recipe.claim()
    print(
        f"; the paper reports {claim:.2f} % after {recipe.epochs} epochs" if claim else "",
        f"total time: {clock(seconds)}",
        f"checkpoint: {folder / checkpoint.LAST}",
        f"next: python -m hwr.evaluate {folder}",
        sep="\n",
    )


def measure(run: Run, folder: Path, weights: str, epoch: int) -> Result:
    """Measure one of the run's checkpoints on the test images, and log it."""
    if weights == checkpoint.LAST:  # the model holds these
        with checkpoint.averaged(run.ema):
            result = evaluate(run.model, run.test, "testing", task=run.task)
    else:
        model = create_model(run.config)
        checkpoint.load(folder / weights, model)
        result = evaluate(model, run.test, f"testing epoch {epoch}", task=run.task)
    checkpoint.log(
        folder,
        step=run.step,
        weights=weights,
        after_epoch=epoch,
        test_accuracy=result.accuracy,
        test_loss=result.loss,
        test_correct=result.correct,
        test_images=result.total,
    )
    return result


if __name__ == "__main__":
    command.run("hwr.train", main)
