"""The small pure parts: header values, events, addresses; and the cache on the disk."""

import asyncio
import base64
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.config.secret import Secret
from modelplex.config.settings import McpServer
from modelplex.mcp.constants import Catalog, Json
from modelplex.mcp.servers import DiskCache, EraVerdict, ProcessTable, WriteOnlyCache, processes
from modelplex.mcp.servers import cache as cache_module
from modelplex.mcp.servers.address import parse_address
from modelplex.mcp.servers.cache import fingerprint
from modelplex.mcp.servers.header_params import annotated, argument_headers, header_value, standard_headers
from modelplex.mcp.servers.sse_events import Event, EventReader, EventTooLong


@given(st.text())
def test_every_text_survives_a_header(text: str) -> None:
    value = header_value(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    if value.startswith("=?base64?") and value.endswith("?="):
        assert base64.b64decode(value[9:-2]).decode() == text.encode("utf-8", "replace").decode()
    else:
        assert value == text


@pytest.mark.parametrize(
    "schema",
    [
        {"x-mcp-header": "A"},
        {"properties": {"a": {"type": "number", "x-mcp-header": "A"}}},
        {"properties": {"a": {"type": "string", "x-mcp-header": "not a token"}}},
        {"properties": {"a": {"type": "string", "x-mcp-header": 1}}},
        {"properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}},
        {
            "properties": {
                "a": {"type": "string", "x-mcp-header": "A"},
                "b": {"type": "string", "x-mcp-header": "a"},
            }
        },
        {"properties": {"a": {"items": {"type": "string", "x-mcp-header": "A"}}}},
        {"anyOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}]},
    ],
)
def test_an_annotation_that_the_revision_does_not_allow_is_found(schema: Json) -> None:
    with pytest.raises(ValueError, match="x-mcp-header"):
        annotated(schema)


def test_data_in_a_schema_is_not_taken_for_an_annotation() -> None:
    assert annotated({"default": {"x-mcp-header": "A"}, "enum": [{"x-mcp-header": 1}]}) == {}


def test_arguments_become_headers_and_null_ones_do_not() -> None:
    schema: Json = {
        "properties": {
            "t": {"type": "boolean", "x-mcp-header": "T"},
            "n": {"type": "integer", "x-mcp-header": "N"},
            "o": {"properties": {"s": {"type": "string", "x-mcp-header": "S"}}},
            "z": {"type": "string", "x-mcp-header": "Z"},
        }
    }
    arguments: Json = {"t": True, "n": 3, "o": {"s": " x"}, "z": None}
    assert argument_headers(schema, arguments) == {
        "Mcp-Param-T": "true",
        "Mcp-Param-N": "3",
        "Mcp-Param-S": "=?base64?IHg=?=",
    }
    assert argument_headers(schema, {"o": "no object"}) == {}
    assert argument_headers(None, None) == {}


def test_the_name_of_a_request_is_repeated_where_it_has_one() -> None:
    assert standard_headers("resources/read", {"uri": "a://b"}) == {
        "Mcp-Method": "resources/read",
        "Mcp-Name": "a://b",
    }
    assert standard_headers("tools/list", {"name": "x"}) == {"Mcp-Method": "tools/list"}


WHOLE = b'\xef\xbb\xbf: hi\r\nid: 1\r\nretry: 50\r\ndata: {"a":\r\ndata: 1}\r\n\r\nevent: endpoint\rdata:/x\r\rid: 2\ndata:\n\n'


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    reader = EventReader(limit=1000)
    edges = [0, *sorted(cuts), len(WHOLE)]
    events = [e for a, b in pairwise(edges) for e in reader.feed(WHOLE[a:b])]
    assert events == [Event("message", b'{"a":\n1}'), Event("endpoint", b"/x"), Event("message", b"")]
    assert (reader.last_id, reader.retry) == ("2", 0.05)


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: xxxxxxxxxx\n" * 20])
def test_an_event_beyond_the_bound_is_refused(data: bytes) -> None:
    with pytest.raises(EventTooLong):
        EventReader(limit=100).feed(data)


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a.example/mcp", "/other?x=1", "/other?x=1"),
        ("https://a.example/mcp/", "messages", "/mcp/messages"),
        ("https://a.example/mcp", "https://a.example:443/m", "/m"),
        ("https://a.example/mcp", "http://a.example/m", None),
        ("https://a.example/mcp", "https://b.example/m", None),
        ("https://a.example/mcp", "//b.example/m", None),
        ("https://a.example/mcp", "https://u:p@a.example/m", None),
        ("unix:/run/s.sock:/mcp", "/m", "/m"),
        ("unix:/run/s.sock:/mcp", "http://b.example/m", None),
    ],
)
def test_only_addresses_of_the_same_origin_are_followed(url: str, location: str, target: str | None) -> None:
    joined = parse_address(url).joined(location)
    assert (joined.target if joined else None) == target


def test_a_targets_slash_and_query_stay() -> None:
    assert parse_address("http://h/mcp/?key=1").target == "/mcp/?key=1"
    assert parse_address("http://h/mcp").target == "/mcp"
    assert parse_address("http://h").target == "/"


async def test_what_is_kept_comes_back_and_what_is_broken_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "mcp"
    cache = DiskCache(folder)
    catalog = Catalog(
        era="modern", version="2026-07-28", tools=({"name": "ü", "x": [1, None]},), instructions="do"
    )
    assert await cache.load("f" * 64) == (None, None)
    await cache.store("f" * 64, catalog, EraVerdict("modern", "2026-07-28"))
    assert await DiskCache(folder).load("f" * 64) == (catalog, EraVerdict("modern", "2026-07-28"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in folder.iterdir()] == [f"{'f' * 64}.json"]
    for broken in (b"", b"{", b'{"format":99,"catalog":null,"verdict":null}', b"[" * 100_000):
        (folder / f"{'f' * 64}.json").write_bytes(broken)
        assert await cache.load("f" * 64) == (None, None)


async def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "mcp")
    await cache.store("a", None, None)
    await cache.set_late("a", True)
    assert not await cache.is_late("a")


async def test_the_folder_of_what_is_kept_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "MOST_FILES", 3)
    cache = DiskCache(tmp_path)
    for number in range(6):
        await cache.store(f"f{number}", None, EraVerdict("legacy", "2025-11-25"))
        os.utime(tmp_path / f"f{number}.json", (number, number))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f3.json", "f4.json", "f5.json"]


async def test_a_command_that_asks_anew_writes_what_it_learns_and_believes_nothing(tmp_path: Path) -> None:
    kept = DiskCache(tmp_path)
    catalog = Catalog(era="legacy", version="2025-11-25")
    await WriteOnlyCache(kept).store("f", catalog, None)
    assert await kept.load("f") == (catalog, None)
    assert await WriteOnlyCache(kept).load("f") == (None, None)


async def test_no_more_servers_start_at_once_than_the_processors_can_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    children = ProcessTable(64)
    running: list[int] = [0, 0]
    go_on = asyncio.Event()

    async def start() -> None:
        async with children.turn():
            running[0] += 1
            running[1] = max(running)
            await go_on.wait()
            running[0] -= 1

    starts = [asyncio.create_task(start()) for _ in range(5)]
    while running[0] < 2:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(asyncio.gather(*starts), 5)
    assert running == [0, 2]


async def test_a_server_that_hangs_takes_no_turn_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(processes, "TURN", 0.01)
    children = ProcessTable(64)
    began: list[int] = []

    async def hang(number: int) -> None:
        async with children.turn():
            began.append(number)
            await asyncio.Event().wait()

    starts = [asyncio.create_task(hang(number)) for number in range(5)]
    async with asyncio.timeout(5):
        while len(began) < 5:
            await asyncio.sleep(0.005)
    for task in starts:
        task.cancel()
    await asyncio.wait(starts)
    assert children.turns == 2  # each was given back once


def test_a_fingerprint_follows_how_it_is_started_and_no_values_of_variables() -> None:
    def of(**more: object) -> str:
        config = McpServer(**{"name": "a", "command": sys.executable, "args": (Secret("x"),), **more})  # type: ignore[arg-type]
        return fingerprint(config, environ={})

    base = of(env={"A": Secret("1")})
    assert base == of(env={"A": Secret("2")}, name="b")
    others = [
        of(),
        of(env={"B": Secret("1")}),
        of(env={"A": Secret("1")}, args=(Secret("y"),)),
        of(env={"A": Secret("1")}, cwd="/"),
    ]
    assert len({base, *others}) == 5
