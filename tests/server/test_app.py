"""What a request passes before and after the gateway, on a whole gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.caller import Caller
from modelplex.records.request_headers import NOT_KEPT
from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from modelplex.records.store.queries import StoredCall
from modelplex.server import app
from modelplex.server.app import MAX_MODEL_NAME
from tests.gateways import WAIT_S, Running, gateway, one
from tests.processes import CHAT, chat, connect, exchange, read_response, request
from tests.records.store.stored import contents
from tests.upstreams import answer, chat_answer, chat_stream, provider, stall, stream

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
NOBODY = one("http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", CHAT, 405, "takes POST, not GET"),
        ("DELETE", CHAT, 405, "takes POST, not DELETE"),
        ("POST", "/health", 405, "takes GET, not POST"),
        ("POST", "/v1/models", 405, "takes GET, not POST"),
        ("GET", "/nothing", 404, "There is nothing at /nothing"),
        ("POST", "/v1/files", 404, "There is nothing at /v1/files"),
        ("POST", "/v1beta/models/m:nothing", 400, "models/{model}:{method}"),
        ("GET", "/v1/..%2fhealth", 400, "read in two ways"),
        ("GET", "/v1/responses/absent", 404, ""),
    ],
)
async def test_a_path_or_method_that_is_not_served_is_an_error(
    method: str, path: str, status: int, words: str, tmp_path: Path
) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        got = await running.ask(method, path, b"" if method != "POST" else b"{}")
        assert got.status == status
        assert words in got.body.decode()
        assert got.headers["x-request-id"].startswith("mpx-")


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
@pytest.mark.parametrize(
    ("content_type", "answered"),
    [
        ("application/json", ("application/json", b"{}")),
        ("application/x-protobuf", ("application/x-protobuf", b"")),
    ],
)
async def test_telemetry_of_clients_is_answered_and_discarded(
    signal: str, content_type: str, answered: tuple[str, bytes], tmp_path: Path
) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        got = await running.ask(
            "POST", f"/v1/{signal}", b"{}" * 100_000, headers=[(b"content-type", content_type.encode())]
        )
        assert got.status == 200
        assert (got.headers["content-type"], got.body) == answered
        assert (await running.ask("GET", f"/v1/{signal}")).status == 404
        assert not running.records


async def test_head_is_served_as_get_without_a_body(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        data = b"HEAD /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        raw = await exchange(running.socket, data)
        got = read_response(raw, head=True)
        assert got.status == 200
        assert int(got.headers["content-length"]) > 0
        assert raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("listener", "version", "status"), [("tcp", "1.1", 400), ("tcp", "1.0", 200), ("unix", "1.1", 200)]
)
async def test_a_host_is_needed_on_tcp_in_http_1_1(
    listener: str, version: str, status: int, tmp_path: Path
) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        data = f"GET /health HTTP/{version}\r\nconnection: close\r\n\r\n".encode()
        port = int(running.base.split(":")[2].split("/")[0])
        got = read_response(
            await exchange(("127.0.0.1", port) if listener == "tcp" else running.socket, data)
        )
        assert got.status == status
        assert (b"host_missing" in got.body) is (status == 400)


async def test_a_websocket_is_refused_with_the_alternative(tmp_path: Path) -> None:
    rows = "GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    async with gateway(DEMO, folder=tmp_path) as running:
        got = read_response(await exchange(running.socket, rows.encode()))
        assert got.status == 426
        assert '\\"stream\\": true' in got.body.decode()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (chat("m" * MAX_MODEL_NAME), 404, "m"),
        (chat("m" * (MAX_MODEL_NAME + 1)), 400, f"between 1 and {MAX_MODEL_NAME}"),
        (chat(""), 400, f"between 1 and {MAX_MODEL_NAME}"),
        (b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nested"),
        (b"{", 400, ""),
    ],
)
async def test_an_unusable_body_is_refused_and_recorded(
    body: bytes, status: int, words: str, tmp_path: Path
) -> None:
    async with gateway(NOBODY, folder=tmp_path) as running:
        got = await running.ask("POST", CHAT, body)
        assert got.status == status
        assert words in got.body.decode()
        record = await running.record()
        assert (record.status, record.outcome) == (status, "error")
        assert (record.bytes_in, record.declared) == (len(body), None)


FULL = '\n[record]\ncontent = "full"\nstore = "{folder}/records.sqlite"\n'


async def recorded(running: Running, folder: Path) -> list[StoredCall]:
    """What is stored, the oldest call first, once all Records are written."""
    sink = running.process._store.sink
    assert sink is not None
    async with asyncio.timeout(WAIT_S):
        while sink.status().waiting or sink.status().written < len(running.records):
            await asyncio.sleep(0.01)
    db = open_database(folder / "records.sqlite", read_only=True)
    try:
        found = [queries.one_call(db, record.id) for record in running.records]
        assert all(found)
        return [each for each in found if each is not None]
    finally:
        db.close()


async def test_what_is_known_of_a_body_that_cannot_be_parsed_is_stored(tmp_path: Path) -> None:
    bodies = (b"{", b'{"model": 7}', b"\xff\xfe", b'{"model": "demo", "messages": "\\ud800"}')
    async with gateway(DEMO + FULL.format(folder=tmp_path), folder=tmp_path) as running:
        for body in bodies:
            assert (await running.ask("POST", CHAT, body)).status == 400
        await running.ask("POST", "/v1beta/models/demo:streamGenerateContent", b"[")
        calls = await recorded(running, tmp_path)
        db = open_database(tmp_path / "records.sqlite", read_only=True)
        assert [queries.request_body(db, each.call.id) for each in calls] == [*bodies, b"["]
        assert (calls[0].call.outcome, calls[0].call.blame) == ("error", "client")
        assert ("content-type", "application/json") in queries.request_headers(db, calls[0])
        assert (calls[4].call.requested_model, calls[4].call.stream) == ("demo", True)  # of the path
        db.close()


async def test_a_body_that_is_refused_before_it_was_read_is_stored(tmp_path: Path) -> None:
    config = "[server]\nmax_request_size = 1000\n" + DEMO + FULL.format(folder=tmp_path)
    async with gateway(config, folder=tmp_path) as running:
        assert (await running.ask("POST", CHAT, b"x" * 5_000)).status == 413
        encoded = [(b"content-encoding", b"gzip"), (b"authorization", b"Bearer canary-key-0123")]
        assert (await running.ask("POST", CHAT, b"zip", headers=encoded)).status == 415
        _, writer = await connect(running.socket)
        writer.write(request("POST", CHAT, b"x" * 900)[:-400])
        await writer.drain()
        async with asyncio.timeout(WAIT_S):
            while len(running.process.app.running) == 0:
                await asyncio.sleep(0.005)
        writer.close()
        await running.record(3)
        large, zipped, broken = await recorded(running, tmp_path)
        assert (large.call.status, large.detail.declared) == (413, 5_000)
        assert (zipped.call.status, zipped.call.code) == (415, "unsupported_encoding")
        assert (zipped.call.endpoint, zipped.call.requested_model) == ("chat/completions", "")
        assert (broken.call.outcome, broken.call.bytes_in, broken.detail.declared) == (
            "client_closed",
            500,
            900,
        )
        assert not any(each.has_request for each in (large, zipped, broken))
        db = open_database(tmp_path / "records.sqlite", read_only=True)
        assert ("authorization", NOT_KEPT) in queries.request_headers(db, zipped)
        assert "canary" not in contents(db)
        db.close()


async def test_paths_that_are_no_calls_are_not_recorded(tmp_path: Path) -> None:
    async with gateway(NOBODY, folder=tmp_path) as running:
        for method, path in (("GET", CHAT), ("POST", "/v1/nothing"), ("GET", "/v1/models")):
            await running.ask(method, path)
        await running.ask("POST", CHAT, b"{")
        assert (await running.record()).endpoint == "chat/completions"
        assert len(running.records) == 1


async def test_a_form_is_read_only_where_the_operation_takes_one(tmp_path: Path) -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    headers = [(b"content-type", b"Multipart/Form-Data; boundary=b")]
    async with provider(answer({"text": "hi"})) as up, gateway(one(up.url), folder=tmp_path) as running:
        refused = await running.ask("POST", CHAT, form, headers=headers)
        assert (refused.status, "not a form" in refused.body.decode()) == (400, True)
        got = await running.ask("POST", "/v1/audio/transcriptions", form, headers=headers)
        assert (got.status, got.json) == (200, {"text": "hi"})


@pytest.mark.parametrize(
    ("path", "headers", "members"),
    [
        (CHAT, (), ("error", "type")),
        ("/v1/messages", (), ("error", "type")),
        ("/v1/models/absent", ((b"anthropic-version", b"1"),), ("error", "type")),
        ("/api/chat", (), ("error",)),
        ("/v1beta/models/m:generateContent", (), ("error", "status")),
    ],
)
async def test_an_error_is_in_the_dialect_of_path_and_headers(
    path: str, headers: tuple[tuple[bytes, bytes], ...], members: tuple[str, ...], tmp_path: Path
) -> None:
    async with gateway(NOBODY, folder=tmp_path) as running:
        method = "GET" if "absent" in path else "POST"
        got = await running.ask(method, path, b"" if method == "GET" else b"{", headers=headers)
        assert got.status in {400, 404}
        assert ("type" in got.json) == (path == "/v1/messages" or headers != ())
        value: Any = got.json
        for member in members:
            value = value[member]
        assert isinstance(value, str)


async def test_a_call_has_one_record_with_what_was_sent(tmp_path: Path) -> None:
    async with provider(answer(chat_answer("Hello"))) as up, gateway(one(up.url), folder=tmp_path) as running:
        got = await running.chat()
        record = await running.record()
        assert (record.id, record.status, record.outcome) == (got.headers["x-request-id"], 200, "ok")
        assert record.bytes_out == len(got.body)
        assert len(running.records) == 1


async def test_a_client_that_disconnects_ends_the_upstream_request_and_is_recorded(tmp_path: Path) -> None:
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as running:
        _, writer = await connect(running.socket)
        writer.write(request("POST", CHAT, chat()))
        async with asyncio.timeout(WAIT_S):
            while not up.seen:
                await asyncio.sleep(0.005)
        writer.close()
        record = await running.record()
        assert record.outcome == "client_closed"
        await asyncio.wait_for(up.hung_up.wait(), WAIT_S)
        assert "0 running" in repr(running.process.app)


async def test_stopping_ends_a_stream_with_an_error_in_its_dialect(tmp_path: Path) -> None:
    first = chat_stream("one two")[:2]
    async with provider(stream(*first, end=False, then=stall)) as up:
        async with gateway(one(up.url), folder=tmp_path) as running:
            reader, writer = await connect(running.socket)
            writer.write(request("POST", CHAT, chat(stream=True)))
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b"one two")
                running.process.app.stop()
                rest = await reader.read()
            writer.close()
            assert b"shutting_down" in rest
            assert b"[DONE]" not in rest


async def test_a_gateway_may_be_replaced_while_a_request_runs(tmp_path: Path) -> None:
    first, *rest = chat_stream("one", "two")[1:]
    go = asyncio.Event()

    async def then(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in rest))

    async with provider(stream(chat_stream()[0], first, then=then)) as up:
        async with gateway(one(up.url), folder=tmp_path) as running:
            reader, writer = await connect(running.socket)
            writer.write(request("POST", CHAT, chat(stream=True)))
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b'"one"')
                file = tmp_path / "config.toml"
                file.write_text(file.read_text().replace('models = ["m"]', 'models = ["other"]'))
                await running.process.reload()
                assert (await running.chat()).status == 404
                go.set()
                assert b'"two"' in await reader.read()
            writer.close()


@pytest.mark.parametrize(
    ("caller", "owner"),
    [
        (Caller(listener="tcp:x", kind="tcp", client="192.0.2.1"), "tcp:x 192.0.2.1"),
        (Caller(listener="tcp:x", kind="tcp", client="192.0.2.1", agent="a"), "agent:a"),
        (Caller(listener="unix:/m", kind="unix"), "unix:/m"),
    ],
)
def test_a_body_counts_for_an_agent_or_an_address_or_a_listener(caller: Caller, owner: str) -> None:
    assert app._memory_owner(caller) == owner


async def test_a_stored_response_can_be_read_and_deleted(tmp_path: Path) -> None:
    config = '[server]\nkeep_responses = "memory"\n' + DEMO
    async with gateway(config, folder=tmp_path) as running:
        made = await running.ask("POST", "/v1/responses", {"model": "demo", "input": "Hi", "store": True})
        name = json.loads(made.body)["id"]
        got = await running.ask("GET", f"/v1/responses/{name}")
        assert (got.status, got.json["id"]) == (200, name)
        assert got.headers["content-type"] == "application/json"
        assert (await running.ask("DELETE", f"/v1/responses/{name}")).status == 200
        assert (await running.ask("GET", f"/v1/responses/{name}")).status == 404


def fails(*_args: object, **_kwargs: object) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("place", ["server.app.read_request", "dialects.exchange.Passthrough.whole"])
async def test_a_defect_is_an_error_in_the_dialect_and_in_the_record(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider(answer(chat_answer("Hello"))) as up, gateway(one(up.url), folder=tmp_path) as running:
        monkeypatch.setattr(f"modelplex.{place}", fails)
        got = await running.ask("POST", CHAT, chat())
        record = await running.record()
        assert (got.status, record.status, record.outcome, record.code) == (
            500,
            500,
            "error",
            "gateway_error",
        )
        assert (record.blame, record.id in got.body.decode()) == ("gateway", True)
        assert "ZeroDivision" not in got.body.decode()


async def test_a_defect_in_a_stream_ends_it_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = chat_stream("one two three")
    more = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.wait_for(more.wait(), WAIT_S)
        for piece in pieces[2:]:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    async with provider(stream(*pieces[:2], end=False, then=wait)) as up:
        async with gateway(one(up.url), folder=tmp_path) as running:
            reader, writer = await connect(running.socket)
            writer.write(request("POST", CHAT, chat(stream=True)))
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b"one")
                monkeypatch.setattr("modelplex.dialects.exchange.Passthrough.feed", fails)
                more.set()
                rest = b""
                while b"gateway_error" not in rest and (data := await reader.read(4096)):
                    rest += data
            writer.close()
            record = await running.record()
            assert (record.outcome, record.code, record.blame) == ("broken", "gateway_error", "gateway")
            assert b"[DONE]" not in rest
