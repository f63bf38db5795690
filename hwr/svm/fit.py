"""Fit a machine, C and gamma by cross-validation. scikit-learn is the extra `svm`."""

from __future__ import annotations

import importlib.util
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.errors import UserError
from hwr.svm.machine import SVM

# Of equally good settings the first is taken: the smoothest stand first.
GRID: dict[str, dict[str, list[float]]] = {
    "linear": {"C": [0.001, 0.01, 0.1, 1.0]},
    "rbf": {"C": [1.0, 10.0, 100.0], "gamma": [0.03, 0.1, 0.3, 1.0]},  # gamma in units of 1 / F
}
FOLDS = 3
SEARCHED = 3000  # features at most that C and gamma are chosen by
SEED = 0  # of the choice of those, and of the folds
INSTALL = "pip install '.[svm]'"


def possible() -> bool:
    """Whether machines can be fitted; to read with them needs no more than NumPy."""
    return importlib.util.find_spec("sklearn") is not None


def require() -> None:
    """UserError unless machines can be fitted."""
    if not possible():
        raise UserError(f"fitting an SVM needs scikit-learn, which is not installed; {INSTALL}")


def fit(kernel: str, features: NDArray[Any], labels: NDArray[np.int64], **facts: Any) -> SVM:
    """The machine with a "linear" or "rbf" kernel for features (N, F) and labels (N,).

    The features are scaled to mean 0 and variance 1 first. C and gamma are those with the highest
    accuracy in a cross-validation on at most `SEARCHED` of the features, then all of them train.
    `facts` are kept beside what it was made with.
    UserError without scikit-learn, or for a class too small to be divided.
    """
    require()
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, classes = features.astype(np.float64), np.unique(labels)
    chosen = subset(labels)
    counts = [(labels[chosen] == label).sum() for label in classes]
    if len(classes) < 2 or min(counts) < FOLDS:
        raise UserError(
            f"{len(labels):,} images of {len(classes)} classes, of the smallest {min(counts)}: an "
            f"SVM needs 2 classes and {FOLDS} images of each; train on more"
        )
    grid = {f"svc__{name}": values for name, values in GRID[kernel].items()}
    if kernel == "rbf":
        grid["svc__gamma"] = [value / x.shape[1] for value in GRID[kernel]["gamma"]]
    machine = Pipeline([("scale", StandardScaler()), ("svc", SVC(kernel=kernel, cache_size=500))])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    search = GridSearchCV(machine, grid, cv=folds, refit=False).fit(x[chosen], labels[chosen])
    machine.set_params(**search.best_params_).fit(x, labels)
    facts |= {
        "kernel": kernel,
        "C": search.best_params_["svc__C"],
        "train_images": len(x),
        "searched_images": len(chosen),
        "folds": FOLDS,
        "cross_validation": float(search.best_score_),
    }
    return from_sklearn(machine["scale"], machine["svc"], facts)


def subset(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of at most `SEARCHED` labels, every class with its share, in ascending order."""
    order = np.random.default_rng(SEED).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, random within each
    count = min(SEARCHED, len(labels))
    return np.sort(order[np.arange(count) * len(labels) // count])


def from_sklearn(scaler: Any, svc: Any, facts: dict[str, Any]) -> SVM:
    """A fitted StandardScaler and SVC as an SVM of ours.

    scikit-learn keeps, for each support vector, its coefficients against the K - 1 other classes:
    in column s of `dual_coef_` (K - 1, S), row j - 1 against a class j after its own and row j
    against one before. Here they stand in a column for each pair, 0 for vectors of other classes.
    For two classes alone its signs are those of the second class.
    """
    count, ends = len(svc.classes_), np.cumsum(svc.n_support_)
    of_class = np.repeat(np.arange(count), svc.n_support_)
    pairs = list(combinations(range(count), 2))
    weights = np.zeros((ends[-1], len(pairs)))
    for column, (first, second) in enumerate(pairs):
        for own, row in ((first, second - 1), (second, first)):
            weights[of_class == own, column] = svc.dual_coef_[row, of_class == own]
    sign = -1.0 if count == 2 else 1.0
    linear = svc.kernel == "linear"
    vectors = np.asarray(svc.support_vectors_)
    return SVM(
        mean=scaler.mean_,
        scale=scaler.scale_,
        weights=sign * (vectors.T @ weights if linear else weights),
        intercepts=sign * svc.intercept_,
        classes=svc.classes_.astype(np.int64),
        vectors=None if linear else vectors,
        gamma=None if linear else float(svc.gamma),
        facts={**facts, "support_vectors": len(vectors)},
    )
