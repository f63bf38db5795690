"""The loaders of strings on small files in the documented format, and on files not right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hwr.data
from hwr.errors import DataError, UserError

Write = Callable[[dict[str, bytes | str]], Path]
Picture = Callable[..., bytes]
Zipped = Callable[[dict[str, bytes]], bytes]


@pytest.mark.parametrize("part", ["a", "b"])
def test_orand(write: Write, picture: Picture, part: str) -> None:
    base = f"ORAND-CAR-2014/CAR-{part.upper()}"
    images = {f"{base}/{part}_test_images/{part}_car_{i:06}.png": picture(i, 20, 30 + i)
              for i in range(3)}  # fmt: skip
    lines = [f"{part}_car_{i:06}.png\t{10**i}" for i in (2, 0, 1)]
    table = f"{base}/{part}_test_gt.txt"
    folder = write({**images, table: "\n".join(lines) + "\n"})
    data = hwr.data.load_strings(f"orand-car-{part}", split="test", data_dir=folder)
    assert data.texts == ("100", "1", "10")
    assert [image.shape for image in data.images] == [(20, 32), (20, 30), (20, 31)]
    assert data.images[0].min() == 0  # paper
    assert data.images[0].max() == 225  # ink
    assert [label.tolist() for label in data.labels] == [[2, 1, 1], [2], [2, 1]]
    write({table: f"{part}_car_000000.png 12x"})
    with pytest.raises(DataError, match="text 0 is '12x', but 'x' is none of the 10 symbols"):
        hwr.data.load_strings(f"orand-car-{part}", split="test", data_dir=folder)
    write({table: "missing.png 12"})
    with pytest.raises(DataError, match=r"line 1 of .*expected the name of a picture"):
        hwr.data.load_strings(f"orand-car-{part}", split="test", data_dir=folder)
    with pytest.raises(
        UserError, match=r"holds strings, not characters; use hwr.data.load_strings"
    ):
        hwr.data.load(f"orand-car-{part}", split="test", data_dir=write({table: lines[0]}))
    write({table: ""})
    with pytest.raises(DataError, match=f"{part}_test_gt.txt is empty; fetch it again"):
        hwr.data.load_strings(f"orand-car-{part}", split="test", data_dir=folder)


def test_orand_with_boxes(write: Write, picture: Picture, zipped: Zipped) -> None:
    entry = {"width": 30, "height": 20, "digits": "42", "boxes": [[1, 2, 9, 9], [12, 2, 9, 9]]}
    files: dict[str, bytes | str] = {"val.zip": zipped({"a.jpg": picture(0, 20, 30)})}
    folder = write({**files, "val.json": json.dumps({"a.jpg": entry})})
    data = hwr.data.load_strings("orand-car-a-boxes", split="test", data_dir=folder)
    assert data.texts == ("42",)
    assert data.boxes is not None
    assert data.boxes[0].tolist() == entry["boxes"]
    for change, message in [
        ({"boxes": [[1, 2, 9, 9]]}, r"boxes 0 are \(1, 4\), expected \(2, 4\) for '42'"),
        ({"boxes": [[1, 2, 9, 9], [25, 2, 9, 9]]}, "a box lies outside the picture of 20 x 30"),
        ({"height": 21}, "is 20 x 30 pixels, but labelled as 21 x 30"),
        ({"digits": None, "boxes": 7}, "is not name: width, height, digits, boxes"),
    ]:
        write({"val.json": json.dumps({"a.jpg": entry | change})})
        with pytest.raises(DataError, match=message):
            hwr.data.load_strings("orand-car-a-boxes", split="test", data_dir=folder)


def test_cvl_strings(write: Write, picture: Picture) -> None:
    folder = write({
        "cvl-strings/train/25000-0164-08.png": picture(1),
        "cvl-strings-eval/0345-0200-01.png": picture(2),
    })  # fmt: skip
    train = hwr.data.load_strings("cvl-strings", split="train", data_dir=folder)
    test = hwr.data.load_strings("cvl-strings", split="test", data_dir=folder)
    assert (train.texts, train.groups["writer"].tolist()) == (("25000",), ["0164"])
    assert (test.texts, test.groups["writer"].tolist()) == (("0345",), ["0200"])
    write({"cvl-strings/train/photo.png": picture(3)})
    with pytest.raises(DataError, match=r"photo.png is not named DIGITS-WRITER-NUMBER"):
        hwr.data.load_strings("cvl-strings", split="train", data_dir=folder)


def test_captcha(write: Write, picture: Picture) -> None:
    codes = [f"{a}{b}x" for a in "25" for b in "bcdef"]
    folder = write({f"{code}.png": picture(i) for i, code in enumerate(codes)})
    parts = [hwr.data.load_strings("captcha", split=s, data_dir=folder) for s in ("train", "test")]
    assert [len(part) for part in parts] == [8, 2]
    assert {text for part in parts for text in part.texts} == {*codes}
    assert parts[0].alphabet == parts[1].alphabet == tuple("25bcdefx")
    write({"again/2bx.png": picture(0)})
    with pytest.raises(DataError, match="the code '2bx' more than once"):
        hwr.data.load_strings("captcha", split="train", data_dir=folder)


@pytest.fixture
def iam(picture: Picture) -> dict[str, bytes | str]:
    """60 writers of four forms with two sentences each, in IAM's layout."""
    forms = {f"a{w:02}-{f:03}u": f"{w:03}" for w in range(60) for f in range(4)}
    names = [f"{form}-s0{s}-00" for form in forms for s in range(2)]
    pictures = {f"sentences/{n[:3]}/{n[:8]}/{n}.png": picture(i, 10, 12)
                for i, n in enumerate(names)}  # fmt: skip
    lines = [f"{n} 0 ok 154 19 408 746 1661 89 A|MOVE|to|{n[1:3]}" for n in names]
    return {
        **pictures,
        "ascii/forms.txt": "# form writer ...\n"
        + "\n".join(f"{form} {w} 2 prt 7 5 52 36" for form, w in forms.items()),
        "ascii/sentences.txt": "#--- sentences.txt ---#\n" + "\n".join(lines) + "\n",
    }


def test_iam_keeps_writers_apart_for_reading(write: Write, iam: dict[str, bytes | str]) -> None:
    folder = write(iam)
    splits = ("train", "validation", "test")
    parts = [hwr.data.load_strings("iam", split=split, data_dir=folder) for split in splits]
    writers = [{*part.groups["writer"]} for part in parts]
    assert [len(each) for each in writers] == [42, 9, 9]
    assert len(set.union(*writers)) == 60
    assert [len(part) for part in parts] == [336, 72, 72]
    assert parts[0].images[0].shape == (64, 77)
    form = str(parts[0].groups["form"][0])
    assert parts[0].texts[0] == f"A MOVE to {form[1:3]}"


def test_iam_keeps_forms_apart_for_writers(write: Write, iam: dict[str, bytes | str]) -> None:
    folder = write(iam)

    def parts(name: str) -> list[hwr.data.Strings]:
        splits = "train", "validation", "test"
        return [hwr.data.load_strings(name, split=s, data_dir=folder) for s in splits]

    apart = parts("iam-writers50")
    forms = [{*part.groups["form"]} for part in apart]
    assert not forms[0] & forms[1] | forms[0] & forms[2] | forms[1] & forms[2]
    assert [len({*part.groups["writer"]}) for part in apart] == [50, 50, 50]
    assert apart[0].images[0].shape[0] == 113
    paper = parts("iam-writers50-paper")
    assert {*paper[0].groups["form"]} & {*paper[2].groups["form"]}
    assert sum(map(len, paper)) == sum(map(len, apart)) == 400


def test_the_writers_of_iam_are_trained_on(
    cli: Callable[..., Any], write: Write, iam: dict[str, bytes | str]
) -> None:
    folder = write(iam)
    options = ["--data-dir", folder, "--epochs", 1, "--limit-batches", 2, "--threads", 1]
    run = cli("train", "--recipe", "jin-writers", *options, "--output-dir", "run")
    assert run.code == 0, run.err
    assert "827,186 parameters" in run.out
    assert "validation loss" in run.out  # on the dataset's own part
    values = json.loads(cli("evaluate", "run", "--json").out)
    assert values["total"] == values["lines_total"] == 50  # lines as wide as high: a patch each
    assert values["lines_right"] == values["correct"]


def test_lines_of_photographed_digits(write: Write, picture: Picture) -> None:

    def entry(writer: str, turn: str | None, *boxes: list[int]) -> dict[str, Any]:
        digits = [{"label": 7, "row": 0, "box": box} for box in boxes]
        rows = ["7" * len(boxes), "123"]  # the second row has no boxes
        return {"rows": rows, "writer_id_guess": writer, "rotate_to_read": turn, "digits": digits}

    table = {f"{writer}{i}.png": entry(writer, None, [5, 5, 8, 10], [20, 4, 8, 10])
             for writer in "ab" for i in range(2)}  # fmt: skip
    table["c0.png"] = entry("c", "ccw", [5, 30, 9, 20])
    photos = {f"images/{name}": picture(i, 40, 50) for i, name in enumerate(table)}
    folder = write({**photos, "labels.json": json.dumps(table)})
    names = "digit-photos", "digit-photos-paper"
    for name in names:
        train, test = (hwr.data.load_strings(name, split=s, data_dir=folder)
                       for s in ("train", "test"))  # fmt: skip
        assert (len(train), len(test)) == (3, 2)
        assert set(train.texts + test.texts) == {"77", "7"}
        assert {*test.groups["writer"]} == {"a", "b"}  # a writer of one photograph is trained on
        assert not {*train.groups["photo"]} & {*test.groups["photo"]}
        assert train.images[0].shape == (15, 27)  # 11 x 23 of boxes, 2 of margin
        assert train.images[0].min() == 0
        shape = next(i.shape for i, t in zip(train.images, train.texts) if t == "7")
        assert shape == (23, 15)  # cut off where the page ends
    for change, message in [
        (entry("c", "left", [5, 5, 9, 9]), "turns c0.png 'left', expected null, ccw, cw, 180"),
        (entry("c", None, [45, 5, 9, 9]), "a box lies outside c0.png of 40 x 50 pixels"),
        ({"rows": ["7"]}, "is not name: rows, writer_id_guess, rotate_to_read"),
    ]:
        write({"labels.json": json.dumps({**table, "c0.png": change})})
        with pytest.raises(DataError, match=message):
            hwr.data.load_strings("digit-photos", split="train", data_dir=folder)


def test_iam_as_it_circulates_without_texts(write: Write, iam: dict[str, bytes | str]) -> None:
    pictures = {f"data_subset/{Path(n).name}": v for n, v in iam.items() if n.endswith("png")}
    folder = write({**pictures, "forms_for_parsing.txt": iam["ascii/forms.txt"]})
    data = hwr.data.load_strings("iam-writers50", split="train", data_dir=folder)
    assert set(data.texts) == {""}
    with pytest.raises(DataError, match=r"holds no sentences.txt"):
        hwr.data.load_strings("iam", split="train", data_dir=folder)
    write({"forms_for_parsing.txt": "a00-000u 000\n"})
    with pytest.raises(DataError, match=r"form a00-001u of .*png is not in forms.txt"):
        hwr.data.load_strings("iam-writers50", split="train", data_dir=folder)
