"""Bad options, files, folders and disks: one clear message, exit code 2, nothing half-written."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from hwr import models, train
from tinynn import state

Cli = Callable[..., Any]
Files = dict[Path, bytes]
InterruptAt = Callable[..., AbstractContextManager[None]]
TINY = ["--model", "mlp", "--width", 4, "--validation", 100, "--batch-size", 50, "--threads", 1]


def files(folder: Path) -> Files:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(run: Any, message: str, code: int = 2) -> None:
    """One line on stderr that says it."""
    assert run.code == code, run
    assert "Traceback" not in run.err
    assert re.search(message, run.err), run.err
    lines = [line for line in run.err.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert run.err.startswith(("hwr.", "usage:"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model resnet81", r"unknown model 'resnet81'; did you mean 'resnet18'\? Known: "),
        ("--recipe chi2022", r"unknown recipe 'chi2022'; did you mean 'chi2022-resnet18'\?"),
        ("--backend nunpy", r"unknown backend 'nunpy'; did you mean 'numpy'\?"),
        ("--optimizer adan", r"unknown optimizer 'adan'; did you mean 'adam'\?"),
        ("--schedule cosin", r"unknown schedule 'cosin'; did you mean 'cosine'\?"),
        ("--stem 5x5", r"model 'resnet18': stem must be '7x7' or '3x3', not '5x5'"),
        ("--model mlp --stem 3x3", "model 'mlp' has no option 'stem'; it has: width, classes"),
        ("--recipe fast --width 8", "model 'fast' has no option 'width'"),
        ("--batch-size 0", "argument --batch-size: 0 is less than 1"),
        ("--epochs -1", "argument --epochs: -1 is less than 1"),
        ("--epochs 1.5", "argument --epochs: '1.5' is not a whole number"),
        ("--width 0", "argument --width: 0 is less than 1"),
        ("--lr fast", "argument --lr: 'fast' is not a number"),
        ("--lr nan", "argument --lr: nan is not a finite number of 0 or more"),
        ("--lr inf", "argument --lr: inf is not a finite number of 0 or more"),
        ("--lr=-0.1", "argument --lr: -0.1 is not a finite number of 0 or more"),
        ("--label-smoothing 2", "--label-smoothing: 2 is not a finite number from 0 to 1"),
        ("--momentum 0.9", "--momentum 0.9 is for SGD, but the optimizer is adam"),
        ("--ema-decay 1", "--ema-decay 1 is not from 0 to below 1"),
        ("--patience 2 --validation 0", "--patience 2 needs images to validate on"),
        ("--augment affin", r"unknown augmentation 'affin'; did you mean 'affine'\?"),
        ("--augment turn=3", "unknown amount of augmentation 'turn'; .*Known: rotation_deg"),
        ("--augment affine,scale=big", "augmentation: 'scale=big' is not scale=NUMBER"),
        ("--augment scale=1", "augmentation: scale is 1, expected from 0 to 0.9"),
        ("--image-size 27", "images are 28x28, larger than size 27; use size=28 or more"),
        ("--std 0", "mean is 0.1307 and std is 0.0, expected finite numbers and std > 0"),
        ("--seed -1", "argument --seed: -1 is less than 0"),
        ("--save-every soon", "argument --save-every: 'soon' is not a number"),
        ("--threads 0", "argument --threads: 0 is less than 1"),
        ("--threads 1000", "--threads: .*1000 is not from 1 to"),
        ("--validation 60000", "holdout: count is 60000, expected 1 to 59999"),
        ("--train-size 60000", "--train-size 60000 is more than the 55000 training images left"),
        ("--train-size 129", "129 images in batches of 128 leave a batch of one image, and this"),
        ("--data-dir missing", "mnist: .*missing does not exist; give the folder"),
        ("--resume missing", "--resume missing: there is no such run folder"),
        ("--resume .", "config.json: there is no such file; a run folder holds"),
        ("--frobnicate", "unrecognized arguments: --frobnicate"),
    ],
)
def test_bad_options(cli: Cli, tmp_path: Path, options: str, message: str) -> None:
    assert_refused(cli("train", *options.split()), message)
    assert list(tmp_path.iterdir()) == []


def test_training_on_single_images_is_refused_only_where_it_is_impossible(
    cli: Cli, digits: Path
) -> None:
    options = ("--validation", 100, "--data-dir", digits, "--epochs", 1, "--threads", 1)
    one = ("--train-size", 41, "--batch-size", 20)
    assert_refused(cli("train", "--width", 4, *options, *one), "leave a batch of one image")
    assert cli("train", "--width", 4, *options, *one, "--limit-batches", 2).code == 0
    assert cli("train", "--width", 4, "--stem", "3x3", *options, *one).code == 0
    assert cli("train", *TINY, *options, "--train-size", 5, "--batch-size", 1).code == 0


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_backend_that_is_not_installed(cli: Cli, digits: Path, name: str) -> None:
    options = ["--backend", "cupy"]
    if name == "evaluate":
        assert cli("train", *TINY, "--data-dir", digits, "--output-dir", "run").code == 0
        options.append("run")
    told = r"backend 'cupy' needs CuPy: pip install '\.\[cuda13\]'.*or choose --backend numpy"
    assert_refused(cli(name, *options), told)


# -- data -------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[:-100]


def flipped(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data, mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "the header ends after 0 bytes"),
    "truncated": (cut, "it was cut off"),
    "truncated gzip": (lambda data: gzip.compress(data)[:-100], "damaged gzip|cut off"),
    "flipped bits": (flipped, "damaged|cut off|more follow|expected 0 to 9"),
    "oversized": (lambda data: data + b"\0", "but more follow"),
    "huge": (lambda data: data[:4] + b"\xff" * 12 + data[16:], "more than the 1073741824 allowed"),
    "wrong magic": (lambda data: b"\x89PNG" + data[4:], "this is no IDX file"),
    "wrong count": (
        lambda data: data[:4] + (7).to_bytes(4, "big") + data[8:16] + bytes(7 * 784),
        "holds 7 images, but .* holds [0-9]+ labels",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("split", ["train", "t10k"])
def test_damaged_data(cli: Cli, digits: Path, tmp_path: Path, damage: str, split: str) -> None:
    shutil.copytree(digits, tmp_path / "data")
    change, message = DAMAGE[damage]
    path = tmp_path / "data" / f"{split}-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    before = files(tmp_path)
    assert_refused(cli("train", *TINY, "--data-dir", "data"), message)
    assert files(tmp_path) == before  # not even trained before the test images are looked at
    assert not (tmp_path / "runs").exists()


def test_missing_test_images_are_noticed_before_training(
    cli: Cli, digits: Path, tmp_path: Path
) -> None:
    shutil.copytree(digits, tmp_path / "data")
    (tmp_path / "data" / "t10k-labels-idx1-ubyte").unlink()
    run = cli("train", *TINY, "--data-dir", "data")
    assert_refused(run, "holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz")
    assert not (tmp_path / "runs").exists()


# -- folders and disks --------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["file", "file/run", "/dev/null", "/dev/null/run", "n" * 300])
def test_an_output_folder_that_cannot_be(
    cli: Cli, digits: Path, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").write_text("a file")
    run = cli("train", *TINY, "--data-dir", digits, "--output-dir", folder)
    assert_refused(run, f"cannot write {re.escape(folder)}: .*; ")
    assert files(tmp_path) == {tmp_path / "file": b"a file"}


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_folder_one_may_not_write_to(cli: Cli, digits: Path, tmp_path: Path, mode: int) -> None:
    (tmp_path / "locked").mkdir(mode=mode)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    run = cli("train", *TINY, "--data-dir", digits, "--output-dir", "locked/run")
    (tmp_path / "locked").chmod(0o700)
    assert_refused(run, "cannot write locked/run: Permission denied; choose a folder you may")
    assert list((tmp_path / "locked").iterdir()) == []


FULL_DISK = """
import resource, runpy, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
runpy.run_module("hwr.train", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def full_disk(spawn: Callable[..., Popen[str]]) -> Callable[..., tuple[int, str]]:
    """Train where no file can grow beyond so many bytes; returns exit code and stderr."""

    def run(size: int, *options: object) -> tuple[int, str]:
        process = spawn("-W", "error", "-c", FULL_DISK, size, *options)
        _, err = process.communicate()
        return process.returncode, err

    return run


def test_a_full_disk_leaves_the_old_checkpoint(
    cli: Cli,
    digits: Path,
    tmp_path: Path,
    full_disk: Callable[..., tuple[int, str]],
    interrupt_at: InterruptAt,
) -> None:
    options = [*TINY, "--backend", "reference", "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "whole").code == 0
    with interrupt_at(3):
        assert cli("train", *options, "--output-dir", "run").code == 130
    before = files(tmp_path / "run")
    remedy = r"File too large; raise the limit on file sizes \(ulimit -f\)"
    code, err = full_disk(9000, "--resume", "run", "--save-every", 0)
    assert code == 2, err
    assert re.fullmatch(rf"hwr.train: error: cannot write run/last.safetensors: {remedy}\n", err)
    assert files(tmp_path / "run") == before
    assert cli("train", "--resume", "run").code == 0
    a, b = (state.read_arrays(Path(name, "last.safetensors"))[0] for name in ("run", "whole"))
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_a_disk_that_is_full_from_the_start(
    cli: Cli, digits: Path, tmp_path: Path, full_disk: Callable[..., tuple[int, str]]
) -> None:
    options = [*TINY, "--backend", "reference", "--data-dir", digits, "--output-dir", "run"]
    code, err = full_disk(100, *options)
    assert code == 2, err
    assert err.startswith("hwr.train: error: cannot write run/config.json: File too large")
    assert files(tmp_path) == {}
    code, err = full_disk(9000, *options)
    assert code == 2, err
    assert err.startswith("hwr.train: error: cannot write run/last.safetensors: File too large")
    assert [path.name for path in files(tmp_path)] == ["config.json"]
    assert_refused(cli("evaluate", "run"), "run/last.safetensors: there is no such file")
    assert cli("train", "--resume", "run").code == 0


# -- checkpoints and configurations -------------------------------------------------------------


@pytest.fixture
def stopped(cli: Cli, digits: Path, interrupt_at: InterruptAt) -> Path:
    """The folder of a run that was stopped at its third step."""
    with interrupt_at(3):
        options = (*TINY, "--data-dir", digits, "--output-dir", "run")
        assert cli("train", *options).code == 130
    return Path("run")


def other_model(path: Path) -> None:
    state.save(models.create("mlp", width=5, seed=0), path)


def weights_only(path: Path) -> None:
    state.save(models.create("mlp", width=4, seed=0), path)


def no_standing(path: Path) -> None:
    state.write_arrays(path, state.read_arrays(path)[0], {"note": "all but where training stood"})


def odd_types(path: Path) -> None:
    path.write_bytes(
        (64).to_bytes(8, "little")
        + b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'.ljust(64)
        + b"\0\0"
    )


@pytest.mark.parametrize(
    ("damage", "message", "evaluated"),
    [
        (lambda path: path.write_bytes(b""), "not a readable safetensors file", 2),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "it may be truncated", 2),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "it may be truncated", 2),
        (lambda path: path.write_bytes(b"\xff" * 5000), "not a readable safetensors file", 2),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(900)), "not a readable safetensors", 2),
        (lambda path: (path.unlink(), path.mkdir()), "not a readable safetensors file", 2),
        (odd_types, "run/last.safetensors: ", 2),
        (other_model, r"state is not of this MLP", 2),
        (weights_only, "the state is of another optimiser or model: missing 0.lr", 0),
        (no_standing, "its metadata do not say where training stood", 0),
    ],
)  # fmt: skip
def test_bad_checkpoints(
    cli: Cli, stopped: Path, damage: Callable[[Path], Any], message: str, evaluated: int
) -> None:
    damage(stopped / "last.safetensors")
    before = files(stopped)
    run = cli("train", "--resume", stopped)
    assert_refused(run, message)
    assert "run/last.safetensors: " in run.err
    run = cli("evaluate", stopped)
    assert run.code == evaluated
    assert evaluated == 0 or "run/last.safetensors: " in run.err
    assert files(stopped) == before


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda config: [],
    "no recipe": lambda config: {**config, "recipe": None},
    "no facts": lambda config: {**config, "facts": {}},
    "text for a number": lambda config: {**config, "seed": "7"},
    "a fraction of a thread": lambda config: {**config, "threads": 1.5},
    "an unknown field": lambda config: {**config, "sede": 7},
    "no epochs": lambda config: {**config, "recipe": {**config["recipe"], "epochs": None}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration(cli: Cli, stopped: Path, name: str) -> None:
    path = stopped / "config.json"
    path.write_text(json.dumps(CONFIGS[name](json.loads(path.read_text()))))
    before = files(stopped)
    for command in (("train", "--resume"), ("evaluate",)):
        assert_refused(cli(*command, stopped), "run/config.json: not the configuration of a run")
    assert files(stopped) == before


def test_half_a_configuration(cli: Cli, stopped: Path) -> None:
    path = stopped / "config.json"
    path.write_bytes(path.read_bytes()[:200])
    assert_refused(cli("evaluate", stopped), "run/config.json: not the configuration of a run")


def test_a_configuration_of_a_model_that_is_gone(cli: Cli, stopped: Path) -> None:
    path = stopped / "config.json"
    path.write_text(path.read_text().replace('"model": "mlp"', '"model": "mpl"'))
    assert_refused(cli("evaluate", stopped), "unknown model 'mpl'; did you mean 'mlp'")


# -- memory and pipes ----------------------------------------------------------------------------


def test_too_little_memory(cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise MemoryError("Unable to allocate 1.00 TiB")

    monkeypatch.setattr(train, "train_step", fail)
    run = cli("train", *TINY, "--data-dir", digits)
    assert_refused(run, "out of memory .*1.00 TiB.*; choose a smaller --batch-size or model")


def test_a_reader_that_goes_away_is_no_crash(spawn: Callable[..., Popen[str]]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn("-m", "hwr.train", "--list-recipes", stdout=writing)
    os.close(writing)
    _, err = process.communicate()
    assert err == ""
    assert process.returncode == 1
