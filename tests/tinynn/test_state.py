"""Saving and loading weights: what is written is read back, and nothing else is ever accepted."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import nn, state
from tinynn.state import StateError


def make_model(seed: int = 0) -> nn.Module:
    """A filter, a 0-d counter, a matrix: everything that a file may hold."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 3, (2, 4), generator=rng),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Linear(6, 5, generator=rng),
    )
    model(tn.Tensor(rng.normal(size=(4, 3, 4, 2)).astype("float32")))  # moves the statistics
    return model


def assert_same(a: nn.Module, b: nn.Module) -> None:
    """The states agree bit for bit, dtypes too."""
    mine, yours = a.state_dict(), b.state_dict()
    assert list(mine) == list(yours)
    for name, array in mine.items():
        assert array.dtype == yours[name].dtype, name
        assert array.shape == yours[name].shape, name
        assert array.tobytes() == yours[name].tobytes(), name


# -- the round trip ---------------------------------------------------------------------------


def test_a_model_comes_back_bit_for_bit(tmp_path: Path, backend: Any) -> None:
    model, other = make_model(0), make_model(1)
    state.save(model, tmp_path / "model.safetensors")
    assert state.load(other, tmp_path / "model.safetensors") == {}
    assert_same(model, other)
    x = tn.Tensor(np.random.default_rng(2).normal(size=(2, 3, 4, 2)).astype("float32"))
    assert np.array_equal(model.eval()(x).numpy(), other.eval()(x).numpy())


def test_a_file_loads_on_another_backend(tmp_path: Path) -> None:
    with tn.use_backend("reference"):
        model = make_model()
        state.save(model, tmp_path / "model.safetensors")
    with tn.use_backend("numpy"):
        other = make_model(1)
        state.load(other, tmp_path / "model.safetensors")
    assert_same(model, other)


def test_loading_copies_into_the_parameters_in_place(tmp_path: Path) -> None:
    """An optimiser that holds the parameters goes on with the loaded weights."""
    model = make_model()
    state.save(model, tmp_path / "model.safetensors")
    other = make_model(1)
    optimizer = tn.optim.SGD(other.parameters(), lr=0.1)
    state.load(other, tmp_path / "model.safetensors")
    weights = optimizer.param_groups[0].weights
    assert all(np.shares_memory(p.data, weights) for p in other.parameters())
    assert_same(model, other)


def test_metadata_keeps_its_types(tmp_path: Path) -> None:
    metadata = {
        "model": "resnet18",
        "options": {"stem": "7x7", "width": 64},
        "epoch": 3,
        "accuracy": 0.9953,
        "classes": ["0", "1", "zwölf", "七"],
        "nothing": None,
        "best": True,
    }
    state.save(make_model(), tmp_path / "model.safetensors", metadata)
    assert state.load(make_model(), tmp_path / "model.safetensors") == metadata
    assert state.read_metadata(tmp_path / "model.safetensors") == metadata


def test_metadata_of_others_is_read_as_text(tmp_path: Path) -> None:
    import safetensors.numpy

    path = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(1)}, path, {"format": "pt", "n": "3"})
    assert state.read_arrays(path)[1] == {"format": "pt", "n": 3}


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        state.save(make_model(), tmp_path / "model.safetensors", {"bad": {1, 2}})
    assert list(tmp_path.iterdir()) == []


STRIDED: dict[str, np.ndarray] = {
    "transposed": np.arange(12, dtype="float32").reshape(3, 4).T,
    "reversed": np.arange(5.0)[::-1],
    "every other": np.arange(10)[::2],
    "broadcast": np.broadcast_to(np.float32(2.5), (2, 3)),
    "permuted": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
    "big-endian": np.arange(4, dtype=">f4"),
    "0-d": np.array(7, dtype="int64"),
    "empty": np.zeros((0, 3), "float32"),
    "half": np.arange(3, dtype="float16"),
    "boolean": np.array([True, False]),
    "byte": np.arange(3, dtype="uint8"),
}


@pytest.mark.parametrize("what", STRIDED)
def test_any_array_is_written_as_it_reads(what: str, tmp_path: Path) -> None:
    """Not as it lies in memory: `w.T` once came back scrambled from some writers."""
    array = STRIDED[what]
    state.write_arrays(tmp_path / "a.safetensors", {"a": array})
    arrays, metadata = state.read_arrays(tmp_path / "a.safetensors")
    assert metadata == {}
    assert arrays["a"].shape == array.shape
    assert arrays["a"].dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(arrays["a"], array)


def test_a_transposed_parameter_is_saved_right(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 4), nn.Linear(3, 4)
    values = np.arange(12, dtype="float32").reshape(3, 4).T
    assert not values.flags.c_contiguous
    model.weight.data = values
    state.save(model, tmp_path / "model.safetensors")
    state.load(other, tmp_path / "model.safetensors")
    assert np.array_equal(other.weight.data, values)


def test_files_hold_pytorchs_names_and_layout(tmp_path: Path) -> None:
    model = make_model()
    state.save(model, tmp_path / "model.safetensors")
    arrays, _ = state.read_arrays(tmp_path / "model.safetensors")
    own = model.state_dict()
    assert set(arrays) == set(own)
    assert own["0.weight"].shape == (3, 2, 4, 2)  # (OC, KH, KW, C)
    assert arrays["0.weight"].shape == (3, 2, 2, 4)  # (OC, C, KH, KW)
    assert np.array_equal(arrays["0.weight"], own["0.weight"].transpose(0, 3, 1, 2))
    assert arrays["1.num_batches_tracked"].dtype == "int64"
    assert arrays["1.num_batches_tracked"].shape == ()
    assert np.array_equal(arrays["3.weight"], own["3.weight"])


def test_to_torch_gives_copies() -> None:
    model = make_model()
    before = model.state_dict()
    for array in state.to_torch(model).values():
        array[...] = 0
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name])


# -- what does not fit ------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_listed_and_nothing_changes(tmp_path: Path) -> None:
    model = make_model()
    arrays = state.to_torch(model)
    del arrays["1.running_var"], arrays["3.bias"]
    arrays["0.weight"] = arrays["0.weight"][:2] + 1
    arrays["3.weight"] = arrays["3.weight"].T
    arrays["0.bias"] += 1  # fits, but must not be taken alone
    arrays["head.weight"] = np.zeros((7, 7))
    path = tmp_path / "other.safetensors"
    state.write_arrays(path, arrays)
    before = make_model()
    with pytest.raises(StateError) as error:
        state.load(model, path)
    message = str(error.value)
    assert str(path) in message
    for words in (
        "missing 1.running_var (3,)",
        "missing 3.bias (5,)",
        "extra head.weight (7, 7)",
        "misshapen 0.weight",
        "misshapen 3.weight: (6, 5) in the state, (5, 6) in the model",
    ):
        assert words in message
    assert_same(model, before)


def test_a_filter_of_another_rank_is_misshapen() -> None:
    model = make_model()
    arrays = state.to_torch(model)
    arrays["0.weight"] = arrays["0.weight"].reshape(3, -1)
    with pytest.raises(StateError, match=r"misshapen 0\.weight"):
        state.from_torch(model, arrays)


def test_a_state_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"missing 0\.weight"):
        state.from_torch(make_model(), {})


# -- damaged files ----------------------------------------------------------------------------


def damaged(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Makes a file out of a good one's bytes."""

    def write(path: Path) -> None:
        state.save(make_model(), path)
        path.write_bytes(content(path.read_bytes()))

    return write


BROKEN: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: None,
    "empty": damaged(lambda data: b""),
    "a few bytes": damaged(lambda data: data[:5]),
    "half the header": damaged(lambda data: data[:60]),
    "a byte short": damaged(lambda data: data[:-1]),
    "a byte too long": damaged(lambda data: data + b"\0"),
    "a huge header": damaged(lambda data: b"\xff" * 8 + data[8:]),
    "a pickle": damaged(lambda data: b"\x80\x04\x95" + data),
    "text": damaged(lambda data: b"epoch,loss\n1,0.5\n" * 50),
    "a folder": lambda path: path.mkdir(),
    "in no folder": lambda path: None,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_file_is_refused_by_its_name(what: str, tmp_path: Path) -> None:
    path = tmp_path / ("nowhere" if what == "in no folder" else "") / "model.safetensors"
    BROKEN[what](path)
    model = make_model(1)
    for read in (lambda: state.load(model, path), lambda: state.read_metadata(path)):
        with pytest.raises(StateError) as error:
            read()
        assert str(path) in str(error.value)
    assert_same(model, make_model(1))


def test_an_unknown_number_format_is_refused(tmp_path: Path) -> None:
    """bfloat16 has no NumPy type: a message, not a crash inside the reader."""
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(StateError, match=r"model\.safetensors"):
        state.read_arrays(path)


# -- a disk that fills up ---------------------------------------------------------------------


def no_space(*args: Any) -> None:
    """As the operating system reports a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    state.save(make_model(), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, function, no_space)
    with pytest.raises(OSError, match="No space left"):
        state.save(make_model(1), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between writing and renaming."""

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "model.safetensors"
    state.save(make_model(), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        state.save(make_model(1), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


FILL = """
import resource, sys
import numpy as np
from tinynn import state

path = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    state.write_arrays(path, {"new": np.ones(50_000)})
except OSError as error:
    print("OSError:", error.strerror)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_real_limit_of_file_size_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state.write_arrays(path, {"old": np.arange(3.0)})
    before = path.read_bytes()
    command = [sys.executable, "-c", FILL, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "OSError" in result.stdout
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="denied"):
            state.save(make_model(), tmp_path / "model.safetensors")
    finally:
        tmp_path.chmod(0o700)


def test_saving_into_no_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        state.save(make_model(), tmp_path / "nowhere" / "model.safetensors")


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "epoch3.safetensors", tmp_path / "last.safetensors"
    state.save(make_model(0), target)
    link.symlink_to(target)
    state.save(make_model(1), link)
    assert link.is_symlink()
    other = make_model(2)
    state.load(other, target)
    assert_same(other, make_model(1))
