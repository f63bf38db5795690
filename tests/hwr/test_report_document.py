"""Pages: the same blocks as Markdown and as HTML, whatever the text holds."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr.errors import UserError
from hwr.report.document import Document, Heading, Paragraph, Picture, Table

PNG = b"\x89PNG of no matter what"


class Read(HTMLParser):
    """The text of a page, and what stands in the attributes of its tags."""

    def __init__(self, page: str):
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def example() -> Document:
    document = Document("A page")
    document.add(
        Heading("Part"),
        Paragraph("See `report.json` | a < b & *c*."),
        Table(["class", "share"], [["a|b", "1.50 %"], ["<i>", "20.00 %"]], "Two rows."),
        Picture("chart.png", PNG, "A chart."),
    )
    return document


def test_markdown_shows_text_as_it_is() -> None:
    assert example().to_markdown().split("\n\n") == [
        "# A page",
        "## Part",
        r"See `report.json` \| a \< b & \*c\*.",
        "| class | share |\n| :--- | ---: |\n| a\\|b | 1.50 % |\n| \\<i\\> | 20.00 % |",
        "Two rows.",
        "![chart](chart.png)",
        "*A chart.*\n",
    ]


def test_html_needs_no_other_file_and_no_network() -> None:
    text = example().to_html()
    page = Read(text)
    assert page.open == []  # every tag is closed
    image = next(attributes for tag, attributes in page.tags if tag == "img")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert not re.search(r"https?:|<link|<script|@import|url\(", text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        attributes for tag, attributes in page.tags if tag == "meta"
    ]
    assert "prefers-color-scheme: dark" in text
    for shown in ("a|b", "<i>", "1.50 %", "A chart.", "report.json"):
        assert shown in page.text


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20))
def test_no_text_can_become_a_tag(text: str) -> None:
    document = Document(text, [Heading(text), Paragraph(text), Table([text], [[text]], text)])
    page = Read(document.to_html())
    assert page.open == []
    plain = Read(Document("", [Heading(""), Paragraph("`a`"), Table([""], [[""]], "a")]).to_html())
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    assert "".join(page.text).count(text.replace("`", "")) >= (6 if "`" not in text else 0)


def test_pages_join_into_one(tmp_path: Path) -> None:
    whole = Document("All")
    whole.include(example(), "first")
    whole.include(example(), "second")
    whole.write(tmp_path / "new", "index")
    text = (tmp_path / "new" / "index.md").read_text()
    assert re.findall(r"^#+ .*$", text, re.M) == ["# All", *2 * ["## A page", "### Part"]]
    for name in re.findall(r"\]\((.*?)\)", text):
        assert (tmp_path / "new" / name).read_bytes() == PNG
    assert (tmp_path / "new" / "index.html").read_text().count("data:image/png") == 2


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"):
        example().write(tmp_path / "file", "page")


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the header 2"):
        Table(["a", "b"], [["1"]])
