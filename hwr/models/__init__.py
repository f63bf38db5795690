"""Models by name: `create("resnet18", stem="7x7", width=64, classes=10, channels=1)`."""

from hwr.models import (  # each enters its models into the table
    ahlawat,
    arora,
    chaurasia,
    deotte,
    efficientnet,
    fast,
    jin,
    niu_suen,
    photo,
    rao,
    resnet,
    zhan,
    zhang,
)
from hwr.models.head import without_head
from hwr.models.registry import create, models, options_of

__all__ = [
    "ahlawat",
    "arora",
    "chaurasia",
    "create",
    "deotte",
    "efficientnet",
    "fast",
    "jin",
    "models",
    "niu_suen",
    "options_of",
    "photo",
    "rao",
    "resnet",
    "without_head",
    "zhan",
    "zhang",
]
