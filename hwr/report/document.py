"""A page: headings, paragraphs, tables and pictures, from which Markdown and HTML are written.

Text is plain but for `code` between backticks; whatever else Markdown or HTML would read as a sign
of theirs stands on the page as it is.
"""

from __future__ import annotations

import base64
import html
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from hwr.files import make_folder, write_atomic

NUMBER = re.compile(
    r"[-+]?[\d,.:]*(e[-+]\d+)?( ± [\d.]+)?( %)?"
)  # stands flush right, as does nothing
MARKDOWN_SIGNS = re.compile(r"(`[^`]*`)|[\\`*_\[\]<>|~#]")


@dataclass(frozen=True)
class Heading:
    """A heading; level 2 is a part of the page, 3 a part of that."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, and a sentence about them if there is something to say."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"Table: a row has {len(row)} cells, the header {len(self.header)}: {row}"
                )

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers only, which stand flush right."""
        return all(NUMBER.fullmatch(row[column]) for row in self.rows)


@dataclass(frozen=True)
class Picture:
    """A PNG file by the name it gets in the folder of the page; `caption` says what it shows."""

    name: str
    png: bytes = field(repr=False)
    caption: str


Block = Heading | Paragraph | Table | Picture


@dataclass
class Document:
    """A titled page: blocks from top to bottom."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Put blocks at the end."""
        self.blocks.extend(blocks)

    def include(self, other: Document, prefix: str) -> None:
        """Put another page at the end, a level lower; its pictures lie in the folder `prefix`."""
        self.add(Heading(other.title))
        for block in other.blocks:
            if isinstance(block, Heading):
                block = replace(block, level=block.level + 1)
            elif isinstance(block, Picture):
                block = replace(block, name=posixpath.normpath(f"{prefix}/{block.name}"))
            self.add(block)

    def pictures(self) -> list[Picture]:
        """The pictures, from top to bottom."""
        return [block for block in self.blocks if isinstance(block, Picture)]

    def to_markdown(self) -> str:
        """The page as Markdown; it shows pictures that lie beside it."""
        return "\n\n".join([f"# {escaped(self.title)}", *map(markdown, self.blocks)]) + "\n"

    def to_html(self) -> str:
        """The page as one HTML file that needs no other, and no network."""
        style = resources.files("hwr.report").joinpath("page.css").read_text("utf-8")
        title = html.escape(self.title)
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en">',
                "<head>",
                '<meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta name="color-scheme" content="light dark">',
                f"<title>{title}</title>",
                f"<style>\n{style}</style>",
                "</head>",
                "<body>",
                "<main>",
                f"<h1>{title}</h1>",
                *map(html_of, self.blocks),
                "</main>",
                "</body>",
                "</html>\n",
            ]
        )

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.md with its pictures, and NAME.html. UserError if that is impossible."""
        make_folder(folder)
        for picture in self.pictures():
            path = folder / picture.name
            make_folder(path.parent)
            write_atomic(path, picture.png)
        write_atomic(folder / f"{name}.md", self.to_markdown())
        write_atomic(folder / f"{name}.html", self.to_html())


def markdown(block: Block) -> str:
    """A block as Markdown."""
    match block:
        case Heading():
            return f"{'#' * block.level} {escaped(block.text)}"
        case Paragraph():
            return escaped(block.text)
        case Picture():
            return f"![{Path(block.name).stem}]({block.name})\n\n*{escaped(block.caption)}*"
        case Table():
            columns = range(len(block.header))
            rule = ["---:" if block.numeric(column) else ":---" for column in columns]
            lines = [block.header, rule, *block.rows]
            text = "\n".join(
                "| " + " | ".join(line if line is rule else map(escaped, line)) + " |"
                for line in lines
            )
            return f"{text}\n\n{escaped(block.caption)}" if block.caption else text


def html_of(block: Block) -> str:
    """A block as HTML."""
    match block:
        case Heading():
            return f"<h{block.level}>{marked(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{marked(block.text)}</p>"
        case Picture():
            data = base64.b64encode(block.png).decode()
            return (
                f'<figure><div><img src="data:image/png;base64,{data}" '
                f'alt="{html.escape(Path(block.name).stem)}">'
                f"</div><figcaption>{marked(block.caption)}</figcaption></figure>"
            )
        case Table():
            kinds = [' class="n"' if block.numeric(i) else "" for i in range(len(block.header))]
            head = table_row("th", block.header, kinds)
            body = "\n".join(table_row("td", row, kinds) for row in block.rows)
            caption = f"<figcaption>{marked(block.caption)}</figcaption>" if block.caption else ""
            return (
                f"<figure><div><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n"
                f"</tbody></table></div>{caption}</figure>"
            )


def table_row(tag: str, cells: Iterable[str], kinds: Iterable[str]) -> str:
    """A row of a table in HTML, each cell with the class of its column."""
    inner = "".join(f"<{tag}{kind}>{marked(cell)}</{tag}>" for cell, kind in zip(cells, kinds))
    return f"<tr>{inner}</tr>"


def marked(text: str) -> str:
    """Text for HTML."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def escaped(text: str) -> str:
    """Text for Markdown, its signs escaped but for those in `code`."""
    return MARKDOWN_SIGNS.sub(lambda m: m[1] or f"\\{m[0]}", text.replace("\n", " "))
