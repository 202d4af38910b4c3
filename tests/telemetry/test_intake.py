"""The limits of what agents send."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from modelplex.core.errors import AgentLimited, BadRequest, TooLarge
from modelplex.telemetry import intake
from modelplex.telemetry.intake import TelemetryIntake
from modelplex.telemetry.signals import Item, Sender

AGENT = Sender("agent:coder", "unix:/s", "coder")
OTHER = Sender("agent:other", "unix:/o", "other")
BODY = b'{"resourceLogs":[{"scopeLogs":[]}]}'
PACKED = gzip.compress(BODY, mtime=0)


class Kept:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self.has_room = True

    def add(self, item: Item, /) -> bool:
        if self.has_room:
            self.items.append(item)
        return self.has_room


class Clock:
    at = 100.0

    def __call__(self) -> float:
        return self.at


def made(*targets: Kept) -> tuple[TelemetryIntake, Clock]:
    clock = Clock()
    return TelemetryIntake(targets, clock=clock, now=lambda: 5.0), clock


async def send(
    taken: TelemetryIntake,
    body: bytes = BODY,
    *,
    sender: Sender = AGENT,
    kind: str = "application/json",
    packed: bool = False,
) -> str:
    taken.check(sender, "logs")
    return await taken.take(body, sender, "logs", content_type=kind, gzip=packed)


async def test_what_is_accepted_is_stamped() -> None:
    kept = Kept()
    taken, _ = made(kept)
    assert await send(taken, kind="application/json; charset=utf-8") == "json"
    assert await send(taken, gzip.compress(BODY), packed=True) == "json"
    assert await send(taken, b"", kind="application/x-protobuf") == "protobuf"
    first, second, _third = kept.items
    assert first.body == second.body
    (entry,) = json.loads(first.body)["resourceLogs"]
    assert entry["resource"]["attributes"][0]["value"] == {"stringValue": "coder"}
    assert (first.at, first.sender, first.signal) == (5.0, AGENT, "logs")
    assert taken.counts() == {("coder", "logs", "accepted"): 3}


@pytest.mark.parametrize(
    ("body", "kind", "packed", "status"),
    [
        (BODY, "text/plain", False, 415),
        (b"{", "application/json", False, 400),
        (b"\x0b", "application/x-protobuf", False, 400),
        (BODY, "application/json", True, 400),
        (PACKED[:-4], "application/json", True, 400),
        (PACKED + b"more", "application/json", True, 400),
    ],
)
async def test_what_is_no_telemetry_is_refused(body: bytes, kind: str, packed: bool, status: int) -> None:
    taken, _ = made(Kept())
    with pytest.raises(BadRequest) as caught:
        await send(taken, body, kind=kind, packed=packed)
    assert caught.value.status == status
    assert taken.counts() == {("coder", "logs", "invalid"): 1}


async def test_a_gzip_bomb_is_not_inflated() -> None:
    taken, _ = made(Kept())
    bomb = gzip.compress(b"[" * (intake.MAX_INFLATED + 1))
    assert len(bomb) < 20_000
    with pytest.raises(TooLarge):
        await send(taken, bomb, packed=True)
    with pytest.raises(AgentLimited):  # and counts as what it would have been
        await send(taken)


async def test_a_flood_of_requests_is_limited_for_its_agent_alone() -> None:
    kept = Kept()
    taken, clock = made(kept)
    for _ in range(int(intake.BURST_REQUESTS)):
        await send(taken)
    with pytest.raises(AgentLimited) as caught:
        await send(taken)
    assert caught.value.status == 429
    assert caught.value.retry_after == 2.0
    await send(taken, sender=OTHER)
    clock.at += 1.0
    await send(taken)
    assert taken.counts()["coder", "logs", "limited"] == 1


async def test_a_flood_of_bytes_is_limited_until_they_are_paid() -> None:
    taken, clock = made(Kept())
    big = b'{"resourceLogs":[{"scopeLogs":["' + b"x" * 4_000_000 + b'"]}]}'
    for _ in range(3):
        await send(taken, big)
    with pytest.raises(AgentLimited) as caught:
        await send(taken)
    assert caught.value.retry_after is not None
    clock.at += caught.value.retry_after
    await send(taken)


async def test_large_bodies_at_the_same_time_are_limited_by_the_first() -> None:
    kept = Kept()
    taken, _ = made(kept)
    big = gzip.compress(b'{"resourceLogs":[{"scopeLogs":["' + b"x" * 9_000_000 + b'"]}]}', 1)
    sent = await asyncio.gather(*(send(taken, big, packed=True) for _ in range(5)), return_exceptions=True)
    assert [isinstance(each, AgentLimited) for each in sent] == [False, True, True, True, True]
    assert len(kept.items) == 1
    assert taken.counts() == {("coder", "logs", "accepted"): 1, ("coder", "logs", "limited"): 4}


async def test_large_bodies_that_are_no_telemetry_count_with_their_decompressed_size() -> None:
    taken, _ = made(Kept())
    with pytest.raises(BadRequest):
        await send(taken, gzip.compress(b"[" * 9_000_000), packed=True)
    with pytest.raises(AgentLimited):
        await send(taken)


async def test_where_nobody_has_room_the_agent_is_told() -> None:
    first, second = Kept(), Kept()
    taken, _ = made(first, second)
    first.has_room = False
    await send(taken)
    assert len(second.items) == 1
    second.has_room = False
    with pytest.raises(AgentLimited):
        await send(taken)


async def test_the_owners_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_OWNERS", 3)
    taken, _ = made(Kept())
    for number in range(10):
        await send(taken, sender=Sender(f"run:{number}", "unix:/s"))
    assert len(taken._buckets) == 3
