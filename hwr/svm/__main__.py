"""A trained network with support vector machines in place of its last layer, side by side.

`python -m hwr.svm RUN` fits them to the features of the training images, unless they are there, and
writes RUN/svm/svm.html, the same as Markdown, and the numbers as svm.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hwr import command
from hwr.evaluate import opened
from hwr.files import make_folder, write_atomic
from hwr.report import style
from hwr.statistics import describe_accuracy
from hwr.svm import open_hybrid, page
from hwr.svm.hybrid import FOLDER

NAME = "svm"  # of the page


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m hwr.svm",
        description="Fit a linear and an RBF SVM to the features of a trained network, and set "
        "all three classifiers side by side, with and without refusing to read.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("run", type=Path, help="a run folder, such as runs/niu-suen-mnist")
    p.add_argument(
        "--output-dir", metavar="DIR", type=Path, help="folder of the page (default: RUN/svm)"
    )
    p.add_argument("--refit", action="store_true", help="fit the SVMs again if they are there")
    p.add_argument("--backend", help="numpy, reference or cupy; the run's own if not given")
    command.add_allow_reference(p)
    p.add_argument("--data-dir", help="folder of the data; the run's own if not given")
    p.add_argument("--threads", type=command.count(1), metavar="N",
                   help="threads the kernels use; the run's own if not given")  # fmt: skip
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    p.set_defaults(weights="last")  # for `opened`: the machines belong to these
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Fit or load, measure, write the page and print the accuracies."""
    args = parser().parse_args(argv)
    with opened(args.run, args) as (config, model):
        hybrid = open_hybrid(args.run, config, model, refit=args.refit)
        validation, test = hybrid.validation(), hybrid.test()
    found = page.numbers(validation, test, hybrid.machines)
    folder = args.output_dir or args.run / FOLDER
    write_atomic(make_folder(folder) / f"{NAME}.json", json.dumps(found, indent=1) + "\n")
    page.document(found, args.run.resolve().name, style.installed()).write(folder, NAME)
    if not style.installed():
        print(f"no picture: matplotlib is not installed; {style.INSTALL}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
        return 0
    for name, each in found.items():
        refused = each["rejection"]
        print(
            f"{page.TITLES[name]}: test accuracy "
            f"{describe_accuracy(each['correct'], each['total'])}; "
            f"{page.percent(refused['share_read'])} read with {refused['errors']} errors by a "
            "threshold of no error in validation"
        )
    print(f"page: {folder / NAME}.html (and .md, .json)")
    return 0


if __name__ == "__main__":
    command.run("hwr.svm", main)
