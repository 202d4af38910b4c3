"""Admission control: what a head decides, and the memory of bodies and large heads."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from modelplex.core.errors import AgentLimited, Busy
from modelplex.server.admission import (
    HEADER_COST,
    LARGE_BODIES,
    MAX_HEADS,
    USUAL_HEAD,
    USUAL_HEADERS,
    BodyMemory,
    HeadMemory,
    HeadReservation,
    Reservation,
)
from tests.gateways import Running, gateway, one
from tests.processes import CHAT, WAIT_S, Answer, chat, exchange, read_response, request
from tests.upstreams import Act, answer, chat_answer, provider, stall

KIB = 1024
NOBODY = one("http://127.0.0.1:9/v1")
ANTHROPIC = "/v1/messages"


# --- counting


def test_a_caller_has_at_most_its_share() -> None:
    memory = BodyMemory(total=100, share=30)
    memory.grow("a", 20)
    memory.grow("a", 10)
    with pytest.raises(AgentLimited) as refused:
        memory.grow("a", 1)
    assert (refused.value.status, refused.value.code) == (429, "too_many_body_bytes")
    assert refused.value.retry_after == 1
    memory.shrink("a", 1)
    memory.grow("a", 1)


def test_a_caller_must_leave_as_much_free_as_it_takes() -> None:
    memory = BodyMemory(total=90, share=30)
    memory.grow("a", 30)
    memory.grow("b", 30)
    with pytest.raises(Busy) as refused:
        memory.grow("c", 16)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (
        503,
        "body_memory_full",
        1,
    )
    memory.grow("c", 15)
    memory.grow("d", 7)
    memory.grow("e", 3)
    assert memory.used == 85


def test_a_further_caller_finds_room_beside_any_number_of_greedy_ones() -> None:
    memory = BodyMemory(total=96 * 2**20, share=32 * 2**20)
    for number in range(12):
        size = 2**25
        while size >= KIB:
            try:
                memory.grow(f"hostile {number}", size)
            except (AgentLimited, Busy):
                size //= 2
    memory.grow("good", 2 * KIB)


def test_released_memory_is_free_again() -> None:
    chance = random.Random(9)
    memory = BodyMemory(total=3000, share=1000)
    held: list[Reservation] = []
    for _ in range(2000):
        if held and chance.random() < 0.5:
            held.pop(chance.randrange(len(held))).release()
            continue
        reservation = Reservation(memory, chance.choice("abc"))
        held.append(reservation)
        for size in sorted(chance.randrange(400) for _ in range(3)):
            try:
                reservation.reach(size)
            except (AgentLimited, Busy):
                break
        assert memory.used == sum(each.size for each in held) <= 3000
    for reservation in held:
        reservation.release()
        reservation.release()
    assert memory.used == 0
    assert not any(memory._held.values())


def test_new_limits_apply_to_what_is_asked_for_next() -> None:
    memory = BodyMemory(total=100, share=100)
    memory.grow("a", 50)
    memory.configure(total=100, share=40)
    with pytest.raises(AgentLimited):
        memory.grow("a", 1)
    memory.shrink("a", 50)
    memory.grow("a", 40)


def test_a_usual_head_is_not_counted() -> None:
    memory = HeadMemory()
    reservation = HeadReservation(memory)
    assert reservation.fits(USUAL_HEAD, headers=USUAL_HEADERS)
    assert memory.used == 0


def test_a_large_head_counts_with_its_headers_until_it_is_released() -> None:
    memory = HeadMemory()
    reservation = HeadReservation(memory)
    assert reservation.fits(USUAL_HEAD + 1, headers=USUAL_HEADERS)
    weight = USUAL_HEAD + 1 + HEADER_COST * USUAL_HEADERS
    assert memory.used == weight
    assert reservation.fits(USUAL_HEAD + 100, headers=USUAL_HEADERS)  # more of the same head has come
    assert memory.used == weight + 99
    reservation.release()
    reservation.release()
    assert memory.used == 0


def test_large_heads_of_all_connections_share_a_bound() -> None:
    memory = HeadMemory()
    first, second = HeadReservation(memory), HeadReservation(memory)
    assert first.fits(MAX_HEADS, headers=0)
    assert not second.fits(USUAL_HEAD, headers=USUAL_HEADERS * 2)
    second.release()
    first.release()
    assert second.fits(USUAL_HEAD, headers=USUAL_HEADERS * 2)


# --- through a gateway


class Open:
    """A connection that sends a request without its whole body."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def begin(self, data: bytes) -> Open:
        self.reader, self.writer = await asyncio.open_unix_connection(self._path)
        self.writer.write(data)
        await self.writer.drain()
        return self

    async def answer(self) -> Answer:
        """The response, up to its length: the connection may stay open for the rest of the body."""
        async with asyncio.timeout(WAIT_S):
            top = await self.reader.readuntil(b"\r\n\r\n")
            length = int(read_response(top).headers["content-length"])
            body = await self.reader.readexactly(length)
        self.close()
        return read_response(top + body)

    def close(self) -> None:
        self.writer.close()


def head(length: int, *, path: str = CHAT, rows: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{rows}content-length: {length}\r\n\r\n".encode()


async def until_used(running: Running, size: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while running.process.app.bodies.used != size:
            await asyncio.sleep(0.005)


def agent(folder: Path, name: str, rows: str = "") -> str:
    return f'[[agents]]\nname = "{name}"\nsocket = "{folder / name}.sock"\n{rows}\n'


MEMORY = f"[server]\nmax_request_size = {64 * KIB}\n"


@pytest.mark.parametrize("path", [CHAT, ANTHROPIC, "/api/show", "/mcp/v1", "/mcp/v1/tools/x/call"])
async def test_incomplete_bodies_count_and_the_next_one_is_refused(path: str, tmp_path: Path) -> None:
    config = MEMORY + NOBODY + "[mcp]\nenabled = true\nmax_message = 65536\n"
    async with gateway(config, folder=tmp_path) as running:
        held = [await Open(running.socket).begin(head(30 * KIB, path=path) + b"{") for _ in range(2)]
        await until_used(running, 60 * KIB)
        refused = await Open(running.socket).begin(head(30 * KIB, path=path) + b"{")
        got = await refused.answer()
        assert got.status == 429
        assert "max_body_memory_per_caller" in got.body.decode()
        for each in held:
            each.close()
        await until_used(running, 0)
        assert (await running.chat()).status == 502


async def test_the_refusal_is_in_the_clients_dialect(tmp_path: Path) -> None:
    async with gateway(MEMORY + NOBODY, folder=tmp_path) as running:
        held = await Open(running.socket).begin(head(64 * KIB) + b"{")
        await until_used(running, 64 * KIB)
        got = await (await Open(running.socket).begin(head(1, path=ANTHROPIC))).answer()
        assert (got.status, got.headers["retry-after"]) == (429, "1")
        assert got.json["error"]["type"] == "rate_limit_error"
        assert got.json["error"]["details"]["error_code"] == "too_many_body_bytes"
        record = await running.record(1)
        assert (record.status, record.code, record.blame) == (429, "too_many_body_bytes", "policy")
        held.close()


async def test_other_callers_find_room_beside_full_shares(tmp_path: Path) -> None:
    agents = "".join(agent(tmp_path, name) for name in "abc")
    memory = f"{MEMORY}max_body_memory = {3 * 64 * KIB}\n"
    async with gateway(memory + NOBODY + agents, folder=tmp_path) as running:
        held = [await Open(str(tmp_path / f"{name}.sock")).begin(head(64 * KIB)) for name in "ab"]
        await until_used(running, 128 * KIB)
        third = await Open(str(tmp_path / "c.sock")).begin(head(40 * KIB))
        got = await third.answer()
        assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "body_memory_full", "1")
        for where in (str(tmp_path / "c.sock"), running.socket):
            got = read_response(await exchange(where, request("POST", CHAT, chat(text="x" * 9000))))
            assert got.status == 502
        for each in held:
            each.close()


async def test_a_body_without_a_length_counts_as_it_arrives(tmp_path: Path) -> None:
    async with gateway(MEMORY + NOBODY, folder=tmp_path) as running:
        rows = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        held = await Open(running.socket).begin(rows + b"%x\r\n%b\r\n" % (50 * KIB, b" " * 50 * KIB))
        await until_used(running, 50 * KIB)
        second = await Open(running.socket).begin(rows + b"%x\r\n%b\r\n" % (20 * KIB, b" " * 20 * KIB))
        got = await second.answer()
        assert (got.status, got.error["code"]) == (429, "too_many_body_bytes")
        held.close()
        await until_used(running, 0)


@pytest.mark.parametrize("size", [1, 2, 1000, 16_384, 70_000])
async def test_a_body_in_pieces_arrives_whole(size: int, tmp_path: Path) -> None:
    async with provider(answer(chat_answer())) as up, gateway(one(up.url), folder=tmp_path) as running:
        text = "".join(chr(97 + i % 26) for i in range(min(40 * size, 100_000)))
        body = chat(text=text)
        reader, writer = await asyncio.open_unix_connection(running.socket)
        top = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        writer.write(top + b"transfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            if at % (7 * size) == 0:
                await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        got = read_response(await asyncio.wait_for(reader.read(), WAIT_S))
        writer.close()
        assert got.status == 200
        assert up.seen[0].json["messages"][0]["content"] == text


async def test_a_body_counts_while_its_request_runs(tmp_path: Path) -> None:
    async with provider(stall) as up, gateway(MEMORY + one(up.url), folder=tmp_path) as running:
        body = chat(text="x" * 40_000)
        waiting = await Open(running.socket).begin(request("POST", CHAT, body))
        await until_used(running, len(body))
        got = await (await Open(running.socket).begin(head(30 * KIB))).answer()
        assert got.status == 429
        waiting.close()
        await until_used(running, 0)


@pytest.mark.parametrize(
    ("rows", "status", "code"),
    [
        ("rate = { requests = 1 }", 429, "agent_rate_limited"),
        ("concurrent = 1", 429, "agent_concurrency_limited"),
        ("budget = { tokens = 1 }", 402, "agent_budget_exceeded"),
    ],
)
async def test_an_agents_limits_are_checked_before_the_body_is_read(
    rows: str, status: int, code: str, tmp_path: Path
) -> None:
    scripts: list[Act] = [stall if "concurrent" in rows else answer(chat_answer())]
    state = f'[server]\nstate_folder = "{tmp_path / "state"}"\n'
    async with provider(*scripts) as up:
        async with gateway(state + one(up.url) + agent(tmp_path, "a", rows), folder=tmp_path) as running:
            where = str(tmp_path / "a.sock")
            first = await Open(where).begin(request("POST", CHAT, chat()))
            if "concurrent" not in rows:
                assert (await first.answer()).status == 200
            else:
                await until_used(running, len(chat()))
            # The response comes, though the body never does.
            got = await (await Open(where).begin(head(9_000_000, path=ANTHROPIC))).answer()
            assert got.status == status
            assert got.json["error"]["details"]["error_code"] == code
            assert running.process.app.bodies.used <= len(chat())
            first.close()


async def test_a_refused_body_does_not_count_for_the_agents_rate(tmp_path: Path) -> None:
    config = MEMORY + NOBODY + agent(tmp_path, "a", "rate = { requests = 1 }")
    async with gateway(config, folder=tmp_path) as running:
        running.socket = str(tmp_path / "a.sock")
        assert (await (await Open(running.socket).begin(head(65 * KIB))).answer()).status == 413
        refused = [b"{", b"[]", b"{}", chat() + b"x"]
        for body in refused:
            got = await running.ask("POST", CHAT, body, unix=True)
            assert got.status == 400
        broken = await Open(running.socket).begin(head(100) + b"{")
        await until_used(running, 100)
        broken.close()
        await until_used(running, 0)
        view = running.process.limits.view()[0]
        assert (view["running"], view["last_minute"]) == (0, {"requests": 0, "tokens": 0})


async def test_requests_refused_by_the_rate_do_not_count_for_it(tmp_path: Path) -> None:
    async with provider(answer(chat_answer())) as up:
        config = one(up.url) + agent(tmp_path, "a", "rate = { requests = 2 }")
        async with gateway(config, folder=tmp_path) as running:
            running.socket = str(tmp_path / "a.sock")
            statuses = [(await running.chat(unix=True)).status for _ in range(5)]
            assert statuses == [200, 200, 429, 429, 429]
            view = running.process.limits.view()[0]
            assert (view["refused"], view["last_minute"]) == (3, {"requests": 2, "tokens": 10})


async def test_a_client_that_is_still_sending_can_read_the_refusal(tmp_path: Path) -> None:
    """Most libraries write the whole body before they read."""
    config = NOBODY + agent(tmp_path, "a", "rate = { requests = 1 }")
    async with gateway(config, folder=tmp_path):
        where = str(tmp_path / "a.sock")
        assert read_response(await exchange(where, request("POST", CHAT, chat()))).status == 502
        size = 30_000_000
        sent = await Open(where).begin(head(size))
        sent.writer.write(b"x" * size)
        await sent.writer.drain()
        async with asyncio.timeout(WAIT_S):
            top = await sent.reader.readuntil(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 429 ")
        sent.close()


async def test_a_body_that_trickles_is_refused(tmp_path: Path) -> None:
    """Each piece is in time, but the whole body would take for ever."""
    config = "[server]\nbody_timeout = 0.4\nmin_body_rate = 1000\n" + NOBODY
    async with gateway(config, folder=tmp_path) as running:
        slow = await Open(running.socket).begin(head(100_000))

        async def trickle() -> None:
            while True:
                slow.writer.write(b" ")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        try:
            got = await slow.answer()
        finally:
            trickling.cancel()
        assert (got.status, got.error["code"]) == (408, "request_timeout")
        await until_used(running, 0)


async def test_a_body_at_the_minimal_rate_may_take_longer_than_the_timeout(tmp_path: Path) -> None:
    config = "[server]\nbody_timeout = 0.3\nmin_body_rate = 100\n" + NOBODY
    async with gateway(config, folder=tmp_path) as running:
        body = json.dumps({"model": "nobody", "pad": "x" * 1000}).encode()
        steady = await Open(running.socket).begin(head(len(body)))
        for at in range(0, len(body), 100):
            steady.writer.write(body[at : at + 100])
            await asyncio.sleep(0.05)
        async with asyncio.timeout(WAIT_S):
            assert (await steady.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        steady.close()


def test_the_release_of_large_bodies_is_told() -> None:
    told: list[int] = []
    memory = BodyMemory(total=2**30, share=2**30, on_large_release=lambda: told.append(memory.used))
    small, large = Reservation(memory, "a"), Reservation(memory, "b")
    small.reach(LARGE_BODIES - 1)
    small.release()
    assert told == []
    small.reach(1)
    large.reach(LARGE_BODIES - 1)
    small.release()
    large.release()
    assert told == [LARGE_BODIES]
