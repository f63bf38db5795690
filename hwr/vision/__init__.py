"""Handwritten digits in photographs: `Reader().read(image)`. Read `reader.py` first."""

from hwr.vision.parameters import Parameters
from hwr.vision.reader import Reader

__all__ = ["Parameters", "Reader"]
