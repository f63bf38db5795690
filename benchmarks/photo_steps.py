"""What each step of reading photographs is worth, and what the choice of its parameters is worth.

`settings` reads the same photographs with one change at a time; `left_out` chooses among them on
all writers but one, who is then the test; `altered` reads real photographs made worse, or turned;
`blank_pages` counts what is read where nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hwr import data
from hwr.progress import Progress
from hwr.vision import Reader, blank
from hwr.vision.evaluation import Counts, compare, find, read_labels
from hwr.vision.photograph import Image, decode, read_bytes
from hwr.vision.synthetic import Scene, photograph

SCENES = (
    Scene(), Scene(pen=-2, ink=(0.5, 0.35, 0.35)), Scene(light=0.7), Scene(shadow=0.5),
    Scene(ruling="lines", turn_deg=2), Scene(desk=True, turn_deg=10), Scene(noise=0.04, blur=1.5),
    Scene(gap=(-0.1, 0.1)),
)  # fmt: skip
AS_SHIPPED = "as shipped"
Changes = Mapping[str, Any]
ABLATIONS: dict[str, Changes] = {
    AS_SHIPPED: {},
    "no search of the orientation": {"orient": False},
    "box stretched to 28x28": {"normalise": "stretch"},
    "20-box centred by box, not by mass": {"normalise": "box"},
    "no cuts inside components": {"cuts": False},
    "one component a digit": {"pieces": 1},
    "adaptive mean": {"threshold": "adaptive"},
    "global Otsu": {"threshold": "otsu"},
    "Sauvola": {"threshold": "sauvola"},
    "no levelling of lines": {"skew_deg": 90.0},
    "no sheet sought": {"page": False},
    "no ruling taken out": {"ruling": 9.0, "ruled_part": 9.0},
    "nothing refused": {"least": 0.0, "least_line": 0.0, "least_alone": 0.0, "line_score": -9.0,
                        "page_score": -9.0, "few_score": -9.0, "skip_cost": 9.0},
}  # fmt: skip
GRID: dict[str, Changes] = {  # from which a setting is chosen without the writer it is tested on
    AS_SHIPPED: {},
    **{
        f"{name} {value:g}": {name: value}
        for name, values in {
            "hysteresis": (0.4, 0.6), "least": (0.3, 0.5), "cut_cost": (0.7, 1.4),
            "skip_cost": (1.6, 3.2),
        }.items()
        for value in values
    },
}  # fmt: skip
ALTERED_PHOTOS = 6  # spread over the folder
BLANK_SEED = 3000  # others than those that rules were chosen by


@dataclass(frozen=True, eq=False)
class Example:
    """A photograph, what is written in it, and by whom."""

    name: str
    image: Image
    truth: dict[str, Any]
    writer: str = ""


def drawn(repeats: int) -> list[Example]:
    """Photographs drawn from MNIST's test digits."""
    digits, examples = data.load("mnist", split="test"), []
    for seed in range(repeats):
        for k, scene in enumerate(SCENES):
            photo = photograph(scene, digits, np.random.default_rng([seed, k]))
            examples.append(Example(f"{k}-{seed}", photo.image, photo.truth))
    return examples


def real(folder: Path) -> list[Example]:
    """The labelled photographs of a folder."""
    return [
        Example(name, decode(read_bytes(find(folder, name)), name).image, truth,
                truth.get("writer_id_guess") or "")
        for name, truth in read_labels(folder).items()
    ]  # fmt: skip


def on_a_desk(reader: Reader, folder: Path) -> list[dict[str, Any]]:
    """What is read of desk/NAME_raw_N.png, where the sheet of NAME_N_A4.png lies on a desk."""
    labels, rows = read_labels(folder), []
    for path in sorted((folder / "desk").iterdir()):
        truth = {"rows": labels[path.name.replace("_raw", "").replace(".png", "_A4.png")]["rows"]}
        image = decode(read_bytes(path), path.name).image
        page = reader.read(image)
        counts = compare(page, truth, image.shape[:2])
        rows.append({"image": path.name, "sheet": bool(page["sheet"]), **asdict(counts)})
    return rows


def settings(
    reader: Reader, examples: Sequence[Example], changes: Mapping[str, Changes]
) -> list[dict[str, Any]]:
    """For each change to the parameters the counts of every photograph, and their sum."""
    rows = []
    with Progress("settings", len(changes) * len(examples), unit="photographs") as progress:
        for name, change in changes.items():
            changed = Reader(reader.classifier, replace(reader.parameters, **change))
            photos, total = [], Counts()
            for example in examples:
                counts = read(changed, example)
                total.add(counts)
                photos.append({"image": example.name, "writer": example.writer, **asdict(counts)})
                progress.update(1)
            rows.append({"change": name, **asdict(total), "photos": photos})
    return rows


def read(reader: Reader, example: Example) -> Counts:
    """What became of the digits of a photograph."""
    return compare(reader.read(example.image), example.truth, example.image.shape[:2])


def left_out(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each writer the setting with the fewest edits on all others, and what it reads of hers.

    Of equal ones the first is taken: as shipped.
    """
    found = []
    for writer in dict.fromkeys(photo["writer"] for photo in rows[0]["photos"]):
        chosen = min(rows, key=partial(edits_of_others, writer))
        own = [photo for photo in chosen["photos"] if photo["writer"] == writer]
        sums = {name: sum(photo[name] for photo in own) for name in asdict(Counts())}
        found.append({"writer": writer, "chosen": chosen["change"], **sums})
    return found


def edits_of_others(writer: str, row: dict[str, Any]) -> int:
    """The edits that a setting needs on all writers but one."""
    return sum(photo["edits"] for photo in row["photos"] if photo["writer"] != writer)


def altered(reader: Reader, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Some photographs read after each alteration, by transcript alone."""
    step = max(1, len(examples) // ALTERED_PHOTOS)
    chosen, rows = list(examples)[::step][:ALTERED_PHOTOS], []
    with Progress("altered", len(ALTERATIONS) * len(chosen), unit="photographs") as progress:
        for name, alter in ALTERATIONS.items():
            total = Counts()
            for example in chosen:
                truth = {"rows": example.truth["rows"]}
                total.add(read(reader, Example(example.name, alter(example.image), truth)))
                progress.update(1)
            rows.append({"change": name, **asdict(total)})
    return rows


def with_lines(image: Image) -> Image:
    """Ruled."""
    import cv2

    out, (h, w) = image.copy(), image.shape[:2]
    step, thick = max(h, w) // 22, max(1, max(h, w) // 450)
    blue, green, red = (float(mean) for mean in image.reshape(-1, 3).mean(0))
    for y in range(step // 2, h, step):
        colour = (0.95 * blue, 0.72 * green, 0.62 * red)
        cv2.line(out, (0, y), (w, y + w // 250), colour, thick, cv2.LINE_AA)
    return np.minimum(image, out)  # the writing is over the lines


def in_shadow(image: Image) -> Image:
    """Lit from one corner."""
    h, w = image.shape[:2]
    across = np.clip(1.25 - np.linspace(0, 1, w), 0.3, 1)
    down = np.linspace(1, 0.7, h)
    return (image * (across * down[:, None])[..., None]).astype(np.uint8)


def noisy(image: Image) -> Image:
    """Taken in the dark."""
    noise = np.random.default_rng(0).normal(0, 10, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def packed(image: Image) -> Image:
    """A JPEG of quality 20."""
    import cv2

    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def resized(image: Image, scale: float) -> Image:
    """Larger or smaller."""
    import cv2

    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=how), np.uint8)


def blurred(image: Image) -> Image:
    """Out of focus."""
    import cv2

    sigma = max(image.shape) / 900
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def on_a_table(image: Image) -> Image:
    """With a dark table around it."""
    import cv2

    h, w = image.shape[:2]
    table = cv2.copyMakeBorder(
        image, h // 4, h // 3, w // 3, w // 5, cv2.BORDER_CONSTANT, value=(25, 35, 50)
    )
    return np.asarray(table, np.uint8)


def aslant(image: Image) -> Image:
    """Turned by 8 degrees."""
    import cv2

    h, w = image.shape[:2]
    move = cv2.getRotationMatrix2D((w / 2, h / 2), 8, 0.85)
    turned = cv2.warpAffine(image, move, (w, h), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def turned(quarters: int) -> Callable[[Image], Image]:
    """Turned counter-clockwise by quarters of a circle."""
    return lambda image: np.ascontiguousarray(np.rot90(image, quarters))


ALTERATIONS: dict[str, Callable[[Image], Image]] = {
    "as they are": lambda image: image,
    "light on dark": lambda image: 255 - image,
    "turned by 90 degrees": turned(1),
    "turned by 180 degrees": turned(2),
    "turned by 270 degrees": turned(3),
    "turned by 8 degrees": aslant,
    "three times as large": lambda image: resized(image, 3),
    "half as large": lambda image: resized(image, 0.5),
    "ruled": with_lines,
    "in half shadow": in_shadow,
    "noise of 10 grey levels": noisy,
    "JPEG of quality 20": packed,
    "out of focus": blurred,
    "on a dark table": on_a_table,
}


def blank_pages(reader: Reader, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """By kind of page: how many there were, on how many something was read, how many digits."""
    every, rows = list(seeds), []
    with Progress("blank pages", len(blank.KINDS) * len(every), unit="pages") as progress:
        for kind in blank.KINDS:
            digits = []
            for seed in every:
                lines = reader.read(blank.page(kind, np.random.default_rng(seed)))["lines"]
                digits.append(sum(len(line["text"]) for line in lines))
                progress.update(1)
            rows.append({"kind": kind, "pages": len(every), "digits": sum(digits),
                         "read_on": int(np.count_nonzero(digits))})  # fmt: skip
    return rows
