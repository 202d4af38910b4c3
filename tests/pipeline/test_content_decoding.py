"""Answers that come compressed although none was asked for."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex.pipeline.content_decoding import GRACE, MOST_ALIKE
from tests.gateways import gateway, one
from tests.upstreams import answer, chat_answer, chat_stream, provider, stream

QUICK = "\n[failover]\nbackoff = 0.001\nretries = 2\n"
WHOLE = json.dumps(chat_answer("Hello")).encode()
BUSY = json.dumps({"error": {"message": "Slow down.", "type": "x", "param": None, "code": None}}).encode()


def raw_deflate(data: bytes) -> bytes:
    packed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packed.compress(data) + packed.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:20]) + gzip.compress(data[20:])


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip of two members": ("GZip", two_members),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_answer_is_read_in_every_place_where_one_comes(
    coding: str, tmp_path: Path
) -> None:
    label, pack = CODINGS[coding]
    events = pack(b"".join(chat_stream("Hel", "lo")))
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {label}\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [events[n : n + 7] for n in range(0, len(events), 7)]
    acts = [
        answer(pack(WHOLE), content_encoding=label),
        stream(*pieces, head=head.encode()),
        answer(pack(WHOLE), content_encoding=label),
        answer(pack(BUSY), status=429, content_encoding=label),
    ]
    async with provider(*acts) as up:
        async with gateway(one(up.url) + QUICK.replace("2", "0"), folder=tmp_path) as gw:
            plain = await gw.chat()
            assert plain.json == chat_answer("Hello")
            assert "content-encoding" not in plain.headers
            streamed = await gw.chat(stream=True, stream_options={"include_usage": True})
            assert streamed.body == b"".join(chat_stream("Hel", "lo"))
            translated = await gw.ask(
                "POST",
                "/v1/messages",
                {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
            )
            assert translated.json["content"][0]["text"] == "Hello"
            assert "Slow down." in (await gw.chat()).error["message"]
        assert {seen.headers["accept-encoding"] for seen in up.seen} == {"identity"}


@pytest.mark.parametrize("label", ["br", "zstd", "gzip, br", "rot13"])
async def test_a_coding_that_is_not_read_is_refused_once_with_a_sentence(label: str, tmp_path: Path) -> None:
    acts = [answer(b"\x0b\x02\x80hello\x03", content_encoding=label), answer(WHOLE)]
    async with provider(*acts) as up, gateway(one(up.url) + QUICK, folder=tmp_path) as gw:
        got = await gw.chat()
        assert (got.status, got.error["code"], len(up.seen)) == (502, "upstream_error", 1)
        assert label in got.error["message"]


async def test_a_refusal_in_a_coding_that_is_not_read_is_judged_by_its_status(tmp_path: Path) -> None:
    limited = answer(b"\x0b\x02\x80hello\x03", status=429, content_encoding="br", retry_after="600")
    async with provider(limited) as up, gateway(one(up.url) + QUICK, folder=tmp_path) as gw:
        got = await gw.chat()
        assert (got.status, got.headers["retry-after"]) == (429, "600")
        assert "hello" not in got.error["message"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("fault", ["broken", "cut", "a bomb"])
async def test_a_coding_that_is_broken_or_a_bomb_is_no_answer(
    fault: str, tmp_path: Path, *, streamed: bool
) -> None:
    packed = {
        "broken": b"no gzip at all, whatever the header says of it",
        "cut": gzip.compress(WHOLE)[:-12],
        "a bomb": gzip.compress(b'{"x": "' + b" " * (GRACE + MOST_ALIKE * 65_536 * 2)),
    }[fault]
    label = "text/event-stream" if streamed else "application/json"
    config = one("URL", max_response_size=1_000_000_000) + QUICK
    async with provider(answer(packed, label=label, content_encoding="gzip")) as up:
        async with gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
            got = await gw.chat(stream=streamed)
            told = got.body.decode()
            assert got.status == 502 or '"error"' in told
            assert "[DONE]" not in told
            said = {"broken": "is broken", "cut": "cut before", "a bomb": f"{MOST_ALIKE} times"}[fault]
            assert said in told


async def test_a_compressed_list_of_models_is_read(tmp_path: Path) -> None:
    listed = json.dumps({"data": [{"id": "packed"}]}).encode()
    async with provider(answer(gzip.compress(listed), content_encoding="gzip")) as up:
        config = one(up.url).replace('models = ["m"]\n', "")
        async with gateway(config, folder=tmp_path) as gw:
            assert [m["id"] for m in (await gw.ask("GET", "/v1/models")).json["data"]] == ["packed"]
