"""Models by name: `create("resnet18", stem="7x7", width=64, classes=10, channels=1)`."""

from hwr.models import arora, efficientnet, fast, resnet, zhang  # each enters its models
from hwr.models.registry import create, models, options_of

__all__ = ["arora", "create", "efficientnet", "fast", "models", "options_of", "resnet", "zhang"]
