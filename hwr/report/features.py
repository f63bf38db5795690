"""What layers look for: their weights as images, and the input that excites a channel most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import tinynn as tn
from hwr.data.loader import Normalize
from hwr.progress import Progress
from hwr.summary import recording
from tinynn import nn
from tinynn.nn import Module

STEPS = 64
STEP = 0.12, 0.03  # mean change of a pixel, black 0 to white 1, in the first step and the last
FADE = 0.97  # what a step leaves of a pixel
JITTER = 2  # pixels
BLUR = 0.6, 0.3  # pixels, in the first step and the last
CLASSES = "classes"  # in place of a layer's name: the logits


@dataclass(frozen=True, eq=False)
class Features:
    """The images uint8 (N, H, W, C) that excite the channels of a layer, and names for them."""

    title: str
    names: Sequence[str]
    images: NDArray[np.uint8]


def first_weights(model: Module, image_shape: Sequence[int]) -> NDArray[np.float32] | None:
    """(N, H, W): the first layer's filters, averaged over the input channels.

    The weights of a linear layer are images as large as the input, if it reads the pixels. None
    for a recurrent layer, whose weights are no images.
    """
    kinds = (nn.Conv2d, nn.Linear, nn.RNNBase)
    first = next((module for module in model.modules() if isinstance(module, kinds)), None)
    if isinstance(first, nn.Conv2d):
        return first.weight.numpy().mean(3)
    if isinstance(first, nn.Linear) and first.weight.shape[1] == np.prod(image_shape):
        return first.weight.numpy().reshape(-1, *image_shape).mean(3)
    return None


def chosen_layers(model: Module) -> list[str]:
    """The first, the middle and the last convolution, of those that see more than a pixel."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    return list(dict.fromkeys(names[i] for i in (0, len(names) // 2, -1))) if names else []


def find_features(
    model: Module,
    normalize: Normalize,
    image_shape: tuple[int, int, int],
    classes: Sequence[str],
    *,
    most: int = 10,
    seed: int = 0,
) -> list[Features]:
    """Features of the chosen layers and of the classes, for images (H, W, C) as the model reads.

    Of a layer with more channels than `most`, as many that are spread evenly over it.
    """
    with tn.no_grad():
        outputs = layer_outputs(model.eval(), tn.Tensor(np.zeros((1, *image_shape), np.float32)))
    chosen = {}
    for layer in [*chosen_layers(model), CLASSES]:
        width = outputs[layer].shape[-1]
        chosen[layer] = np.linspace(0, width - 1, min(width, most)).round().astype(int)
    units = [(layer, int(channel)) for layer in chosen for channel in chosen[layer]]
    images = maximise(model, units, normalize, image_shape, seed)
    ends = np.cumsum([len(channels) for channels in chosen.values()])
    found = []
    for (layer, channels), part in zip(chosen.items(), np.split(images, ends[:-1])):
        names = [classes[i] if layer == CLASSES else str(i) for i in channels]
        shown = f"{len(channels)} of {outputs[layer].shape[-1]} channels"
        title = layer if layer == CLASSES else f"{layer}, {shown}"
        found.append(Features(title, names, part))
    return found


def layer_outputs(model: Module, x: tn.Tensor) -> dict[str, tn.Tensor]:
    """What each layer makes of the images x, by its name; the logits under CLASSES."""
    outputs = {}

    def note(name: str, module: Module, x: tn.Tensor, y: tn.Tensor) -> None:
        outputs[name] = y

    with recording(model, note):
        outputs[CLASSES] = model(x)
    return outputs


def maximise(
    model: Module,
    units: Sequence[tuple[str, int]],
    normalize: Normalize,
    image_shape: tuple[int, int, int],
    seed: int,
) -> NDArray[np.uint8]:
    """Images (len(units), H, W, C), each to excite its unit most, a channel of a layer.

    Gradient ascent on the pixels, from dark noise. Each step moves them by the gradient over its
    mean size, and fades them; the image is shifted at random before it and blurred now and then,
    or the noise of high frequencies would win. Source: Erhan et al. 2009, section 3; Yosinski et
    al. 2015, section 3.
    """
    rng, n = np.random.default_rng(seed), len(units)
    pixels = rng.uniform(0, 0.2, (n, *image_shape)).astype(np.float32)  # black 0 to white 1
    trained = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        with Progress("maximising activations", STEPS, unit="steps") as progress:
            for strength, sigma in zip(np.linspace(*STEP, STEPS), np.linspace(*BLUR, STEPS)):
                shift = rng.integers(-JITTER, JITTER + 1, 2)
                pixels = np.roll(pixels, shift, (1, 2))
                x = tn.Tensor((pixels - normalize.mean) / normalize.std, True, np.float32)
                excitement(layer_outputs(model, x), units).backward()
                assert x.grad is not None
                slope = tn.current_backend().to_numpy(x.grad)
                size = np.abs(slope).mean((1, 2, 3), keepdims=True)
                pixels = FADE * pixels + strength * slope / np.maximum(size, 1e-12)
                pixels = np.roll(np.clip(pixels, 0, 1), -shift, (1, 2))
                pixels = blur(pixels, sigma)
                progress.update(1)
    finally:
        for parameter in trained:
            parameter.requires_grad = True
    return np.round(255 * pixels).astype(np.uint8)


def excitement(outputs: dict[str, tn.Tensor], units: Sequence[tuple[str, int]]) -> tn.Tensor:
    """The sum over i of how image i excites unit i.

    Of the answers of a channel, one a place, the mean weighted by their own softmax: where the
    image fits best counts most. Their unweighted mean would call for white or black all over.
    """
    total = tn.Tensor(0.0)
    for layer in dict.fromkeys(layer for layer, _ in units):
        answers = outputs[layer].numpy()
        weights = np.zeros(answers.shape, np.float32)
        for i, (of, channel) in enumerate(units):
            if of == layer:
                answer = answers[i, ..., channel]
                z = np.exp((answer - answer.max()) / (answer.std() + 1e-6))
                weights[i, ..., channel] = z / z.sum()
        total = total + (outputs[layer] * tn.Tensor(weights)).sum()
    return total


def blur(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """(N, H, W, C) smoothed by a Gaussian of sigma pixels; beyond the edge lies nothing."""

    def weights(size: int) -> NDArray[np.float32]:
        distance = np.arange(size)[:, None] - np.arange(size)
        bell = np.exp(-0.5 * (distance / sigma) ** 2)
        return (bell / bell.sum(1, keepdims=True)).astype(np.float32)

    _, h, w, _ = images.shape
    return np.einsum("yh,nhwc,xw->nyxc", weights(h), images, weights(w), optimize=True)
