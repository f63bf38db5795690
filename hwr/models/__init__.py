"""Models by name: `create("resnet18", stem="7x7", width=64, classes=10, channels=1)`."""

from hwr.models import fast, mlp, resnet  # each enters its models into the table
from hwr.models.registry import create, models, options_of

__all__ = ["create", "fast", "mlp", "models", "options_of", "resnet"]
