from __future__ import annotations

import json

import pytest

from modelplex.packages.allow_list import AllowList, ListedPackage, LockedPackage
from modelplex.packages.simple_index import (
    HTML_TYPE,
    JSON_TYPE,
    BrokenPage,
    IndexFile,
    filter_files,
    read_page,
    read_time,
    write_html,
    write_json,
)

ONE, TWO = "a" * 64, "b" * 64
URL = "https://index.example/simple/a/"
FILE = IndexFile(
    filename="a-1.0-py3-none-any.whl",
    url="https://index.example/files/a-1.0-py3-none-any.whl",
    hashes=(f"sha256:{ONE}",),
    requires_python=">=3.8, <4",
    yanked='broken "twice"',
    uploaded=1_600_000_000.0,
    size=7,
    metadata=(f"sha256:{TWO}",),
)


def test_a_page_in_json_is_read_as_it_was_written() -> None:
    written = write_json("a", [FILE], address=lambda file: file.url)
    assert json.loads(written)["versions"] == ["1"]
    assert read_page(written, media_type=f"{JSON_TYPE}; charset=utf-8", url=URL) == [FILE]


def test_a_page_in_html_is_read_as_it_was_written() -> None:
    """Which has no times and sizes."""
    written = write_html("a", [FILE], address=lambda file: file.url)
    (read,) = read_page(written, media_type=HTML_TYPE, url=URL)
    assert (read.filename, read.url, read.hashes, read.metadata) == (
        FILE.filename,
        FILE.url,
        FILE.hashes,
        FILE.metadata,
    )
    assert (read.requires_python, read.yanked, read.uploaded) == (FILE.requires_python, FILE.yanked, None)


def test_addresses_of_a_page_may_be_relative() -> None:
    html = f'<a href="../../f/a-1.0.tar.gz#sha256={ONE}" data-yanked>a</a><a>b</a>'
    first, second = read_page(html.encode(), media_type="text/html", url=URL)
    assert first.url == "https://index.example/f/a-1.0.tar.gz"
    assert (first.yanked, first.hashes) == (True, (f"sha256:{ONE}",))
    assert second.filename == ""


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"files": 1}', b'{"files": [{}]}', b'{"files": [1]}'])
def test_another_page_is_an_error(body: bytes) -> None:
    with pytest.raises(BrokenPage):
        read_page(body, media_type=JSON_TYPE, url=URL)


def _file(filename: str, *, digest: str = "", uploaded: float | None = None) -> IndexFile:
    hashes = (f"sha256:{digest}",) if digest else ()
    return IndexFile(filename=filename, url=URL, hashes=hashes, uploaded=uploaded)


ALLOWED = AllowList(
    [LockedPackage("pypi", "a", "0!1", (f"sha256:{ONE}",))], [ListedPackage("pypi", "a", "0!2")]
)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (_file("a-1.0.tar.gz", digest=ONE), None),
        (_file("a-1.0.tar.gz"), None),  # the lock has the hash
        (_file("a-1.0.tar.gz", digest=TWO), "its hash is not the lock file's"),
        (_file("a-2.0.tar.gz", digest=TWO), None),
        (_file("a-2.0.tar.gz"), "neither the index nor a lock file has a hash of it"),
        (_file("a-3.0.tar.gz", digest=ONE), ""),
        (_file("b-1.0.tar.gz", digest=ONE), ""),
        (_file("../a-1.0.tar.gz", digest=ONE), ""),
        (_file("a-1.0.exe", digest=ONE), ""),
    ],
)
def test_only_allowed_files_are_kept(file: IndexFile, reason: str | None) -> None:
    kept, withheld = filter_files([file], name="a", allowed=ALLOWED, newest=None)
    assert (kept == [file]) == (reason is None)
    assert [each.reason for each in withheld] == ([reason] if reason else [])


def test_a_file_must_be_old_enough() -> None:
    files = [_file("a-1.0.tar.gz", digest=ONE, uploaded=at) for at in (99.0, 101.0, None)]
    kept, withheld = filter_files(files, name="a", allowed=ALLOWED, newest=100.0)
    assert kept == files[:1]
    assert [each.reason for each in withheld] == ["it is too new", "its age is not known"]


def test_times_are_of_iso_8601() -> None:
    assert read_time("1970-01-01T00:01:00Z") == read_time("1970-01-01T00:01:00.000000") == 60.0
    assert read_time("yesterday") is None
