"""Builders of small IDX files and datasets, and the commands as a user runs them."""

import gzip
import importlib
import io
import os
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hwr.data
import tinynn as tn
from hwr import command
from hwr.data import Dataset

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[NDArray[Any]], bytes]:
    """An array as the bytes of an IDX file."""

    def build(array: NDArray[Any]) -> bytes:
        header = struct.pack(">HBB", 0, CODES[array.dtype.str[1:]], array.ndim)
        sizes = struct.pack(f">{array.ndim}I", *array.shape)
        return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()

    return build


@pytest.fixture
def mnist_folder(tmp_path: Path, idx_bytes: Callable[[NDArray[Any]], bytes]) -> Callable[..., Path]:
    """A folder in MNIST's format; images or labels ``None`` are left out."""

    def build(
        images: NDArray[Any] | None, labels: NDArray[Any] | None, *, packed: bool = False
    ) -> Path:
        arrays = {"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels}
        for name, array in arrays.items():
            if array is not None and packed:
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
            elif array is not None:
                (tmp_path / name).write_bytes(idx_bytes(array))
        return tmp_path

    return build


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """23 random 6x5 images, the first pixel of each its own number; classes of unequal size."""
    images = np.random.default_rng(0).integers(0, 256, (23, 6, 5, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(23)
    labels = np.array([0] * 12 + [1] * 7 + [2] * 4, dtype=np.int64)
    return Dataset("tiny", "train", images, labels, ("a", "b", "c"))


@pytest.fixture(scope="session")
def digits(
    tmp_path_factory: pytest.TempPathFactory, idx_bytes: Callable[[NDArray[Any]], bytes]
) -> Path:
    """A folder in MNIST's format with 400 real digits to train on and 200 to test on."""
    folder = tmp_path_factory.mktemp("digits")
    data = hwr.data.load("mnist", split="test")
    for name, part in (("train", slice(0, 400)), ("t10k", slice(400, 600))):
        images, labels = data.images[part, :, :, 0], data.labels[part].astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """Run a command in this process, in the test's folder: `cli("train", "--epochs", 1)`."""
    tn.get_backend("numpy")  # imported now: no kernel is compiled between a command's lines
    monkeypatch.chdir(tmp_path)
    threads = tn.get_num_threads()

    def run(name: str, *args: object) -> Result:
        capsys.readouterr()
        module = importlib.import_module(f"hwr.{name}")
        with pytest.raises(SystemExit) as ended:
            command.run(f"hwr.{name}", lambda: module.main([str(arg) for arg in args]))
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, out, err)

    yield run
    tn.set_num_threads(threads)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For networks too small to share out."""
    threads = tn.get_num_threads()
    tn.set_num_threads(1)
    yield
    tn.set_num_threads(threads)


@pytest.fixture
def interrupt_at(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., AbstractContextManager[None]]:
    """Press Ctrl-C during these steps within the block: `with interrupt_at(3): cli("train")`."""
    from hwr import train

    @contextmanager
    def pressing(*steps: int) -> Iterator[None]:
        taken, step = 0, train.train_step

        def pressed(*args: Any) -> Any:
            nonlocal taken
            taken += 1
            for _ in range(steps.count(taken)):
                signal.raise_signal(signal.SIGINT)
            return step(*args)

        with monkeypatch.context() as patch:
            patch.setattr(train, "train_step", pressed)
            yield

    return pressing


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python in the test's folder: `spawn("-m", "hwr.train", "--epochs", 1)`."""
    path = [str(Path(hwr.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    started: list[subprocess.Popen[str]] = []

    def start(*args: object, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        command_line = [sys.executable, *map(str, args)]
        started.append(subprocess.Popen(command_line, cwd=tmp_path, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        with process:  # closes the pipes and waits
            pass


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that HWR_TEST_DATA names, else one beside the project; it need not exist."""
    named = os.environ.get("HWR_TEST_DATA")
    return Path(named) if named else Path(hwr.__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A small picture of dark strokes on white as a PNG file, another one for each seed."""
    from hwr.data.picture import png

    def build(seed: int = 0, height: int = 12, width: int = 9) -> bytes:
        image = np.full((height, width, 1), 255, np.uint8)
        ink = np.random.default_rng(seed).random((height - 4, width - 4, 1)) < 0.4
        image[2:-2, 2:-2][ink] = 30
        return png(image)

    return build


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, bytes | str]], Path]:
    """A new folder with these files in it."""

    def build(files: dict[str, bytes | str]) -> Path:
        for name, content in files.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "data"

    return build


@pytest.fixture(scope="session")
def zipped() -> Callable[[dict[str, bytes]], bytes]:
    """Files as the bytes of a zip archive."""

    def build(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return build
