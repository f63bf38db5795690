"""Support vector machines that read the features of a trained network: `python -m hwr.svm RUN`."""

from hwr.svm.hybrid import CLASSIFIERS, Hybrid, open_hybrid
from hwr.svm.machine import SVM

__all__ = ["CLASSIFIERS", "SVM", "Hybrid", "open_hybrid"]
