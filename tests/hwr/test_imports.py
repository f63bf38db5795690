"""`import hwr` and `--help` start at once: what is slow to import is imported when first used."""

from collections.abc import Callable
from subprocess import Popen


def test_commands_start_without_heavy_packages(spawn: Callable[..., Popen[str]]) -> None:
    heavy = "{'numba', 'llvmlite', 'cupy', 'cv2', 'torch', 'tqdm', 'matplotlib'} & {*sys.modules}"
    for lines in (
        "import hwr",
        "import hwr.train, hwr.evaluate, hwr.predict, hwr.data.__main__, hwr.report.__main__",
        "import hwr.inspect.__main__",
        "import hwr.predict as t\ntry: t.main(['--help'])\nexcept SystemExit: pass",
        "import hwr.train as t\ntry: t.main(['--help'])\nexcept SystemExit: pass",
        "import hwr.evaluate as t\ntry: t.main(['--help'])\nexcept SystemExit: pass",
        "import hwr.reproduce as t\ntry: t.main(['--help'])\nexcept SystemExit: pass",
    ):
        process = spawn("-c", f"import sys\n{lines}\nprint(sorted({heavy}))")
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.splitlines()[-1] == "[]"
