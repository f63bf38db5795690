"""The convolutional network for Kannada characters of Rao et al. (P1d).

The layers of Chaurasia's network for images of 64x64 pixels, with 512 features: 4,624,529
parameters at their 657 classes. Smaller images are read at their own `size`.
"""

from __future__ import annotations

from functools import partial

from hwr.models.chaurasia import ChaurasiaCNN
from hwr.models.registry import models

models.register("rao-kannada")(partial(ChaurasiaCNN, features=512, size=64))
