"""Models by name: `create("resnet18", stem="7x7", width=64, classes=10, channels=1)`."""

from hwr.models import (  # each enters its models into the table
    ahlawat,
    arora,
    deotte,
    efficientnet,
    fast,
    photo,
    resnet,
    zhan,
    zhang,
)
from hwr.models.registry import create, models, options_of

__all__ = [
    "ahlawat",
    "arora",
    "create",
    "deotte",
    "efficientnet",
    "fast",
    "models",
    "options_of",
    "photo",
    "resnet",
    "zhan",
    "zhang",
]
