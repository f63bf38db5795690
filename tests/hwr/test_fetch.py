"""Fetching over HTTP from a server in this process: resuming, cut-offs, wrong files, no network."""

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from hwr.data.catalogue import Download, Entry, datasets
from hwr.data.fetch import LOCK, fetch
from hwr.errors import DataError, UserError

CONTENT = b"\x1f\x8b" + bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What is served, and what was asked for."""

    url: str = ""
    content: bytes = CONTENT
    tag: str | None = '"one"'
    cut_after: int | None = None  # bytes of one answer, then the connection ends
    says_length: bool = True
    ranges: list[str | None] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    """GET with ranges, as far as fetching needs them."""

    def __init__(self, server: Server, *args: object) -> None:
        self.it = server
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.it.ranges.append(asked)
        if self.path == "/missing":
            self.send_error(404)
            return
        content, start = self.it.content, 0
        if asked and self.headers.get("If-Range") == self.it.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.it.tag:
            self.send_header("ETag", self.it.tag)
        if self.it.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.it.cut_after is None else start + self.it.cut_after
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine alone."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server()
    handler = partial(Handler, served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        served.url = f"http://127.0.0.1:{httpd.server_port}/file.gz"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        httpd.shutdown()
        thread.join()


@pytest.fixture
def entry(server: Server) -> Callable[..., Entry]:
    """A dataset of one file on that server."""

    def build(**facts: object) -> Entry:
        download = Download(url=server.url, file="file.gz", **facts)  # type: ignore[arg-type]
        return replace(datasets.get("usps"), name="served", downloads=(download,))

    return build


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_checked_and_recorded(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    asked = entry(size=len(CONTENT), hash=f"sha256:{SHA256}")
    (path,) = fetch(asked, tmp_path)
    assert path == tmp_path / "served" / "file.gz"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == [LOCK, "file.gz"]
    assert json.loads((path.parent / LOCK).read_text()) == {
        "file.gz": {"url": server.url, "size": len(CONTENT), "sha256": SHA256}
    }
    assert fetch(asked, tmp_path) == [path]
    assert server.ranges == [None]  # it was not fetched again


def test_a_fetch_goes_on_where_it_was_cut_off(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    server.cut_after = 100_000
    for done in (100_000, 200_000):
        with pytest.raises(
            DataError, match=f"cut off after {done:,} of 512,002 bytes; fetch again"
        ):
            fetch(entry(), tmp_path)
        assert names(tmp_path / "served") == ["file.gz.part", "file.gz.part.tag"]
    server.cut_after = None
    (path,) = fetch(entry(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert names(path.parent) == [LOCK, "file.gz"]


def test_a_fetch_begins_anew_when_the_file_has_changed(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    server.cut_after = 100_000
    with pytest.raises(DataError, match="cut off"):
        fetch(entry(), tmp_path)
    server.cut_after, server.content, server.tag = None, CONTENT[:2] + CONTENT[:-2], '"two"'
    (path,) = fetch(entry(), tmp_path)
    assert path.read_bytes() == server.content


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_a_server_that_cannot_say_what_it_has_is_asked_for_all_of_it(
    server: Server, entry: Callable[..., Entry], tmp_path: Path, tag: str | None
) -> None:
    server.tag, server.cut_after = tag, 100_000
    with pytest.raises(DataError, match="cut off"):
        fetch(entry(), tmp_path)
    server.cut_after = None
    (path,) = fetch(entry(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_part_that_is_the_whole_file_is_no_trouble(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.gz.part").write_bytes(CONTENT)
    (folder / "file.gz.part.tag").write_text('"one"')
    (path,) = fetch(entry(), tmp_path)
    assert path.read_bytes() == CONTENT


def test_an_answer_without_a_length_is_taken_to_its_end(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    server.says_length = False
    (path,) = fetch(entry(hash=f"sha256:{SHA256}"), tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("facts", "content", "message"),
    [
        ({"hash": f"sha256:{SHA256[::-1]}"}, CONTENT, f"its sha256 is {SHA256}, but .* documented"),
        ({"hash": "md5:0"}, CONTENT, "its md5 is [0-9a-f]{32}, but 0 is documented"),
        ({"size": 5}, CONTENT, r"offers 512,002 bytes, expected 5; .* nothing was fetched"),
        ({}, b"<html>Sign in</html>", "begins with 3c 68 74 6d, expected 1f 8b as in every .gz"),
        ({}, b"", "begins with nothing, expected 1f 8b"),
    ],
)
def test_a_wrong_file_stays_out_of_the_cache(
    server: Server,
    entry: Callable[..., Entry],
    tmp_path: Path,
    facts: dict[str, object],
    content: bytes,
    message: str,
) -> None:
    server.content = content
    with pytest.raises(DataError, match=message):
        fetch(entry(**facts), tmp_path)
    assert names(tmp_path / "served") == []


def test_without_a_documented_hash_the_first_fetch_decides(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    (path,) = fetch(entry(), tmp_path)
    path.unlink()
    server.content = CONTENT + b"more"
    with pytest.raises(DataError, match=f"but {SHA256} is recorded at the first fetch, in {LOCK}"):
        fetch(entry(), tmp_path)
    assert names(path.parent) == [LOCK]
    (path.parent / LOCK).write_text("{")
    with pytest.raises(DataError, match=r"fetched.json is damaged .*remove it to record anew"):
        fetch(entry(), tmp_path)


def test_a_file_that_is_here_and_wrong_is_not_replaced(
    entry: Callable[..., Entry], tmp_path: Path
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.gz").write_bytes(b"\x1f\x8bmine")
    with pytest.raises(DataError, match="has 6 bytes, expected 7; remove it to fetch it again"):
        fetch(entry(size=7), tmp_path)
    assert (tmp_path / "served" / "file.gz").read_bytes() == b"\x1f\x8bmine"


def test_without_network_the_message_says_what_to_place_where(
    server: Server, entry: Callable[..., Entry], tmp_path: Path
) -> None:
    place = f"put it as file.gz into {tmp_path / 'served'}"
    missing = replace(entry().downloads[0], url=server.url.replace("file.gz", "missing"))
    with pytest.raises(UserError, match=rf"answers 404 Not Found\. .*{place}"):
        fetch(replace(entry(), downloads=(missing,)), tmp_path)
    closed = replace(missing, url="http://127.0.0.1:9/file.gz")
    with pytest.raises(UserError, match=rf"is there a network\? .*{place}"):
        fetch(replace(entry(), downloads=(closed,)), tmp_path)
    assert names(tmp_path / "served") == []


def test_what_cannot_be_fetched_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mnist is inside the package"):
        fetch(datasets.get("mnist"), tmp_path)
    with pytest.raises(UserError, match=r"register at https://fki.*; then put its files .* into"):
        fetch(datasets.get("iam"), tmp_path)
    with pytest.raises(UserError, match=r"get it from https://github.com/Bishwaprotapi"):
        fetch(datasets.get("photo-alnum62"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", datasets.names())
def test_addresses_and_hashes_are_well_formed(name: str) -> None:
    entry = datasets.get(name)
    for download in entry.downloads:
        assert download.url.startswith(("https://", "http://www.ee.surrey.ac.uk/"))
        kind, _, digest = download.hash.partition(":")
        assert (kind, len(digest)) in {("", 0), ("md5", 32), ("sha256", 64)}
    assert entry.downloads or entry.obtain or entry.source.startswith("http")
