"""Imports go one way, and heavy libraries load when they are first used.

kernels -> backend -> tensor -> autograd -> functions -> nn -> optim, state, ... -> hwr
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import hwr
import tinynn

LAYERS = [
    ["tinynn.files", "tinynn.random", "tinynn.kernels"],
    ["tinynn.backend"],
    ["tinynn.tensor"],
    ["tinynn.autograd"],
    ["tinynn.functions"],
    ["tinynn.functional"],
    ["tinynn.nn"],
    [
        "tinynn.optim",
        "tinynn.state",
        "tinynn.capture",
        "tinynn.gradcheck",
        "tinynn.gradcheck_cases",
        "tinynn.gradcheck_layer_cases",
    ],
    ["tinynn"],
    ["hwr"],
]
# Imports against the direction, which a function makes when it is called.
UPWARD = {("tinynn.tensor", "tinynn.autograd")}  # Tensor.backward


class Import(NamedTuple):
    """`module` imports `target`, when it is imported itself or lazily (inside a function)."""

    module: str
    target: str
    lazy: bool
    line: int

    def __str__(self) -> str:
        return f"{self.module} line {self.line} imports {self.target}"


def sources() -> dict[str, Path]:
    """Every module of both packages and its file."""
    found = {}
    for package in (tinynn, hwr):
        assert package.__file__ is not None
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = sources()


def imports_in(module: str) -> Iterator[Import]:
    """Every import of a module but those that only a type checker sees."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, lazy, node.lineno)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                target = name if name in MODULES else str(node.module)
                yield Import(module, target, lazy, node.lineno)
        lazy = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy)

    return walk(ast.parse(MODULES[module].read_text(encoding="utf-8")), False)


IMPORTS = [found for module in MODULES for found in imports_in(module)]


def layer(module: str) -> int:
    """The number of a module's layer: that of the longest name it begins with."""
    fitting = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or (module.startswith(name + ".") and name != "tinynn")
    ]
    assert fitting, f"place {module} in the layers of {Path(__file__).name}"
    return max(fitting)[1]


def test_imports_go_one_way() -> None:
    ours = [i for i in IMPORTS if i.target.partition(".")[0] in ("tinynn", "hwr")]
    wrong = [
        str(i)
        for i in ours
        if layer(i.target) > layer(i.module) and not (i.lazy and (i.module, i.target) in UPWARD)
    ]
    assert not wrong


def test_the_exceptions_are_still_needed() -> None:
    assert UPWARD.issubset((i.module, i.target) for i in IMPORTS if i.lazy)


def may_import(module: str, library: str) -> bool:
    """Whether our rules allow a module to import a library."""
    if library == "cupy":
        return module.startswith("tinynn.kernels.cuda_") or module in (
            "tinynn.backend",
            "tinynn.capture",
        )
    if library == "numba":
        return module.startswith("tinynn.kernels.") or module == "hwr.data.cpu_warp"
    if library == "cv2":
        return module.startswith("hwr.")
    return False


@pytest.mark.parametrize("library", ["cupy", "numba", "cv2", "torch"])
def test_libraries_stay_where_they_belong(library: str) -> None:
    wrong = [
        str(i)
        for i in IMPORTS
        if i.target.partition(".")[0] == library and not may_import(i.module, library)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "statement", ["import tinynn", "import hwr", "import hwr.models, hwr.data, hwr.recipes"]
)
def test_importing_stays_light(statement: str) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"numba", "cupy", "cv2", "torch"} & set(finished.stdout.split())
