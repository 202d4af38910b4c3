from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from modelplex.http_client import HttpClient
from modelplex.telemetry import relayed
from modelplex.telemetry.relayed import RelayedTelemetry
from modelplex.telemetry.signals import Item, Sender
from tests.upstreams import answer, provider

WAIT_S = 20.0
CODER, OTHER = Sender("agent:coder", "unix:/s", "coder"), Sender("agent:other", "unix:/o", "other")


def item(body: bytes, sender: Sender = CODER) -> Item:
    return Item(1.0, sender, "traces", "protobuf", body)


@pytest.fixture
async def client() -> AsyncGenerator[HttpClient]:
    made = HttpClient()
    yield made
    await made.aclose()


async def no_sleep(seconds: float) -> None:
    del seconds
    await asyncio.sleep(0)


def relay(client: HttpClient, url: str, reports: list[str]) -> RelayedTelemetry:
    return RelayedTelemetry(
        client, url, headers={"authorization": "Bearer t"}, report=reports.append, sleep=no_sleep
    )


async def until_sent(made: RelayedTelemetry) -> None:
    assert made._task is not None
    await asyncio.wait_for(asyncio.shield(made._task), WAIT_S)


async def test_it_is_sent_as_it_was_stamped(client: HttpClient) -> None:
    async with provider(answer({}), answer({})) as up:
        made = relay(client, f"{up.url}/base", [])
        assert made.add(item(b"\x0a\x00"))
        await until_sent(made)
        assert made.add(item(b"\x0a\x01x"))
        await until_sent(made)
    first, second = up.seen
    assert first.target == "/v1/base/v1/traces"
    assert first.headers["content-type"] == "application/x-protobuf"
    assert first.headers["authorization"] == "Bearer t"
    assert (first.body, second.body) == (b"\x0a\x00", b"\x0a\x01x")
    assert made.counts() == {"relayed": 2, "lost": 0}
    assert made._waiting == {}


async def test_a_collector_that_is_busy_is_asked_again(client: HttpClient) -> None:
    async with provider(answer({}, status=503), answer({}, status=429), answer({})) as up:
        made = relay(client, up.url, [])
        made.add(item(b""))
        await until_sent(made)
    assert made.counts() == {"relayed": 1, "lost": 0}


async def test_a_dead_collector_is_reported_once_and_what_it_lost_counted(client: HttpClient) -> None:
    reports: list[str] = []
    made = relay(client, "http://127.0.0.1:1", reports)
    for _ in range(3):
        made.add(item(b""))
    await until_sent(made)
    assert made.counts() == {"relayed": 0, "lost": 3}
    assert len(reports) == 1
    assert made._waiting == {}


async def test_what_it_refuses_is_not_repeated(client: HttpClient) -> None:
    reports: list[str] = []
    async with provider(answer({}, status=400), answer({})) as up:
        made = relay(client, up.url, reports)
        made.add(item(b"1"))
        made.add(item(b"2"))
        await until_sent(made)
    assert len(up.seen) == 2
    assert reports == ["the collector answered 400", ""]


async def test_what_was_taken_is_not_repeated(client: HttpClient) -> None:
    long = {"partialSuccess": {"errorMessage": "x" * relayed.MAX_ANSWER}}
    async with provider(answer(long), answer({})) as up:
        made = relay(client, up.url, [])
        made.add(item(b"1"))
        await until_sent(made)
    assert len(up.seen) == 1
    assert made.counts() == {"relayed": 1, "lost": 0}


async def test_each_owner_has_a_share_and_a_turn(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed, "QUEUED_SHARE", 3)
    async with provider(*[answer({})] * 4) as up:
        made = relay(client, up.url, [])
        assert [made.add(item(b"%d" % number)) for number in range(4)] == [True, True, True, False]
        assert made.add(item(b"x", OTHER))
        await until_sent(made)
    assert [each.body for each in up.seen] == [b"0", b"x", b"1", b"2"]
    assert made.counts() == {"relayed": 4, "lost": 1}


async def test_the_end_waits_for_a_bounded_time(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed, "CLOSE_LIMIT_S", 0.05)

    async def forever(seconds: float) -> None:
        del seconds
        await asyncio.Event().wait()

    made = RelayedTelemetry(client, "http://127.0.0.1:1", headers={}, report=lambda _: None, sleep=forever)
    await made.close()
    made.add(item(b""))
    await asyncio.wait_for(made.close(), WAIT_S)
