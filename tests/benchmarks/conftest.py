"""The benchmarks as a user runs them."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tinynn as tn
from hwr import command


@dataclass(frozen=True)
class Result:
    """What a command left behind; `saved` is its file of results, if it wrote one."""

    code: int
    out: str
    err: str
    saved: dict[str, Any] | None


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """Run a command in this process: `bench("step", "mlp", "--rounds", 1)`."""
    threads = tn.get_num_threads()
    monkeypatch.setattr("benchmarks.compare.PAUSE_S", 0.0)  # nothing is measured here

    def run(name: str, *args: object) -> Result:
        capsys.readouterr()
        module, path = importlib.import_module(f"benchmarks.{name}"), tmp_path / "results.json"
        words = [*map(str, args), *([] if "--output" in args else ["--output", str(path)])]
        with pytest.raises(SystemExit) as ended:
            command.run(f"benchmarks.{name}", lambda: module.main(words))
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        saved = json.loads(path.read_text()) if path.exists() else None
        return Result(ended.value.code, out, err, saved)

    yield run
    tn.set_num_threads(threads)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package that the benchmarks ask for is there: PyTorch, matplotlib, the peers."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
