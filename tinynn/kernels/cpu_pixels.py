"""Loops over the pixels of two images, compiled from formulas: what pooling needs.

A table lists for every pixel of one image some of the other. `Gather` makes the pixel of those it
lists: an output of the inputs in its window, an input's gradient of the outputs that saw it.
`Scatter` makes those it lists of the pixel, where no window has an input of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from tinynn.kernels.cpu_llvm import INT, Emitter, Tile
from tinynn.kernels.cpu_loops import ArrayLoop, strips

PIXELS, BLOCK = 64, 256  # so many pixels, or so many elements of them, are done strip by strip


class Pixels(ArrayLoop):
    """For every pixel of one image and those of another that a table lists for it: pooling.

    Pixel p of every sample (of `positions`) has the pairs first[p] .. first[p + 1] - 1; a pair is
    the `offset` of a listed pixel in its sample (of `listed_size` elements) and a number, which
    the formula has after the `*`. `taps` are uint8, all else is float32. A task is a pixel.
    """

    values: dict[str, Any]  # of the job's fields, in the function that is being written

    def emit(self, module: ir.Module, tile: Tile) -> None:
        emit = Emitter(module, self.name, 4, tile.lanes)
        build = emit.build
        lo, hi, _, _ = emit.function.args
        names = ["channels", "positions", "listed_size", "first", "offsets", "numbers"]
        self.values = {name: self.field(emit, name, INT) for name in [*names, *self.arrays]}
        channels, positions, size = (self.values[name] for name in names[:3])
        block = build.sdiv(INT(BLOCK), build.add(channels, INT(1)))  # there may be no channels
        block = emit.smallest(INT(PIXELS), build.add(block, INT(1)))
        blocks = build.sdiv(build.add(build.sub(hi, lo), build.sub(block, INT(1))), block)
        with emit.loop(blocks, []) as loop:
            begin = build.add(lo, build.mul(loop.index, block))
            count = emit.smallest(block, build.sub(hi, begin))
            sample = build.sdiv(begin, positions)
            first = [build.sub(begin, build.mul(sample, positions)), build.mul(sample, size)]
            for offset, vectors in strips(emit, tile, channels):  # narrow ones: few turns each
                with emit.loop(count, first) as pixels:
                    position, base = pixels.carried
                    place = build.mul(build.add(begin, pixels.index), channels)
                    place, listed = build.add(place, offset), build.add(base, offset)
                    self.emit_pixel(emit, position, place, listed, vectors)
                    following = build.add(position, INT(1))
                    last = build.icmp_signed("==", following, positions)
                    pixels.carried = [
                        build.select(last, INT(0), following),
                        build.select(last, build.add(base, size), base),
                    ]
        emit.finish()

    def emit_pixel(
        self, emit: Emitter, position: Any, place: Any, listed: Any, vectors: range
    ) -> None:
        """Some channels of a pixel: at `place`, and of the listed ones at `listed` + offset."""
        raise NotImplementedError

    def pairs(self, emit: Emitter, position: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The number of pairs; and a function from a pair's index to its offset and number."""
        build = emit.build
        first, offsets = (emit.pointer(self.values[name], INT) for name in ("first", "offsets"))
        numbers = emit.pointer(self.values["numbers"])
        begin, end = (build.load(emit.at(emit.at(first, position), i)) for i in (0, 1))

        def pair(index: Any) -> tuple[Any, Any]:
            place = build.add(begin, index)
            number = emit.spread(build.load(emit.at(numbers, place)))
            return build.load(emit.at(offsets, place)), number

        return build.sub(end, begin), pair

    def pixel(self, emit: Emitter, name: str, place: Any) -> Any:
        """A pointer into an image."""
        return self.element(emit, name, self.values[name], place)


class Gather(Pixels):
    """Every pixel is made of the listed ones. The outputs are carried from pair to pair in
    registers; `start` is their value before the first."""

    def __init__(
        self, formula: Callable[..., Any], outputs: str, job: np.dtype, start: tuple[float, ...]
    ):
        super().__init__(formula, outputs, job)
        self.start = start

    def emit_pixel(
        self, emit: Emitter, position: Any, place: Any, listed: Any, vectors: range
    ) -> None:
        build = emit.build
        keys = [(name, v) for name in self.outputs for v in vectors]
        start = [emit.constant(value) for value in self.start for _ in vectors]
        count, pair = self.pairs(emit, position)
        with emit.loop(count, start) as loop:
            values = dict(zip(keys, loop.carried, strict=True))
            offset, number = pair(loop.index)
            source = build.add(listed, offset)
            for v in vectors:
                known = {name: values[name, v] for name in self.outputs}
                known |= dict.fromkeys(self.numbers, number)
                for name in self.inputs:
                    if name not in known:
                        pointer = self.pixel(emit, name, build.add(source, INT(v)))
                        known[name] = self.load(emit, name, pointer)
                for name, value in self.results(emit, known).items():
                    values[name, v] = value
            loop.carried = list(values.values())
        for (name, v), value in zip(keys, loop.carried, strict=True):
            self.store(emit, value, name, self.pixel(emit, name, build.add(place, INT(v))))


def gather(
    outputs: str, job: np.dtype, start: tuple[float, ...]
) -> Callable[[Callable[..., Any]], Gather]:
    return lambda formula: Gather(formula, outputs, job, start)


class Scatter(Pixels):
    """Every pixel makes the listed ones, which belong to it alone."""

    def emit_pixel(
        self, emit: Emitter, position: Any, place: Any, listed: Any, vectors: range
    ) -> None:
        build = emit.build
        reads = [name for name in self.arrays if name in self.inputs]
        known = {
            v: {
                name: self.load(emit, name, self.pixel(emit, name, build.add(place, INT(v))))
                for name in reads
            }
            for v in vectors
        }
        count, pair = self.pairs(emit, position)
        with emit.loop(count, []) as loop:
            offset, number = pair(loop.index)
            target = build.add(listed, offset)
            for v in vectors:
                numbers = dict.fromkeys(self.numbers, number)
                for name, value in self.results(emit, known[v] | numbers).items():
                    pointer = self.pixel(emit, name, build.add(target, INT(v)))
                    self.store(emit, value, name, pointer)


def scatter(outputs: str, job: np.dtype) -> Callable[[Callable[..., Any]], Scatter]:
    return lambda formula: Scatter(formula, outputs, job)
