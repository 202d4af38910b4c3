from __future__ import annotations

import json
import socket
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.packages.indexes import Index, index, tarball, wheel
from tests.packages.mirrors import WAIT_S, Mirror, mirror

WHEEL = "known-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def source() -> Generator[Index]:
    with index() as found:
        found.add_wheel("known", "1.0")
        found.add_npm("@a/b", "1.0.0")
        found.add_npm("known", "1.0.0")
        yield found


@pytest.fixture(scope="module")
def mirrored(source: Index) -> Generator[Mirror]:
    with mirror(source) as found:
        yield found


def test_a_page_is_in_json_or_html(mirrored: Mirror) -> None:
    status, headers, body = mirrored.get("/simple/known/", accept="application/vnd.pypi.simple.v1+json")
    assert (status, headers["content-type"]) == (200, "application/vnd.pypi.simple.v1+json")
    (file,) = json.loads(body)["files"]
    assert file["filename"] == WHEEL
    status, headers, body = mirrored.get("/simple/known/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert file["url"].encode() in body


def test_a_file_is_served_whole(mirrored: Mirror) -> None:
    for headers in ({}, {"range": "bytes=0-9"}):
        status, got, body = mirrored.get(f"/any/path/{WHEEL}", **headers)
        assert (status, body) == (200, wheel("known", "1.0")[1])
        assert "content-range" not in got
    assert mirrored.get(f"/any/path/{WHEEL}", method="HEAD")[2] == b""


def test_packages_of_npm_are_served(mirrored: Mirror, source: Index) -> None:
    status, _, body = mirrored.get("/npm/@a%2fb")
    assert status == 200
    (version,) = json.loads(body)["versions"].values()
    assert version["dist"]["tarball"] == "http://mirror.example/npm/@a/b/-/b-1.0.0.tgz"
    assert mirrored.get("/npm/@a/b/-/b-1.0.0.tgz")[2] == tarball("@a/b", "1.0.0")


def test_a_file_is_fetched_once_whoever_asks(mirrored: Mirror, source: Index) -> None:
    source.requests.clear()

    def fetch(path: str) -> bytes:
        return mirrored.get(path)[2]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fetch, ["/npm/known/-/known-1.0.0.tgz"] * 20))
    assert set(found) == {tarball("known", "1.0.0")}
    assert sorted(source.asked) == ["GET /npm/known", "GET /npm/known/-/known-1.0.0.tgz"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/simple/known/", 405),
        ("PUT", "/npm/known", 405),
        ("GET", "/elsewhere", 404),
        ("GET", "/simple/unlisted/", 404),
        ("GET", "/npm/unlisted", 403),
        ("GET", "/simple/second/", 404),
        ("GET", "/npm/second/-/second-1.0.0.tgz", 404),
    ],
)
def test_what_is_not_served_is_explained(mirrored: Mirror, method: str, path: str, status: int) -> None:
    found, _, body = mirrored.get(path, method=method)
    assert found == status
    assert json.loads(body)["error"]


def test_a_client_that_leaves_does_not_end_a_fetch_for_others(mirrored: Mirror, source: Index) -> None:
    source.add_wheel("second", "1.0")
    with socket.socket(socket.AF_UNIX) as leaving:
        leaving.settimeout(WAIT_S)
        leaving.connect(mirrored.socket)
        leaving.sendall(b"GET /simple/second/ HTTP/1.1\r\nhost: mirror.example\r\n\r\n")
    assert mirrored.get("/simple/second/")[0] == 200
