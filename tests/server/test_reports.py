"""Events of the server reach the log, the metrics and every sink."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from modelplex.config import Config
from modelplex.core.caller import Caller, Peer, PeerNetwork
from modelplex.records.log import Log
from modelplex.records.metrics import Breaker, Metrics
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord
from modelplex.routing.circuit_breaker import CircuitState
from modelplex.routing.circuits import ALL_CALLERS, ANY_KEY, CircuitName, Circuits, CircuitStatus
from modelplex.server.reports import Reports, breakers
from tests.records.lines import record

CALLER = Caller(listener="unix:/m.sock", kind="unix", agent="coder", peer=Peer(7, 1000, 1000))


class Logged:
    """Reports with a log in memory. `lines` closes the log."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self._log = Log(stream=self._stream, log_format="json")
        metrics = Metrics(breakers=list, lost_lines=self._log.lost, omitted_entries=dict, version="1")
        self.reports = Reports(self._log, metrics, Config())

    def lines(self) -> list[dict[str, Any]]:
        self._log.close()
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def logged() -> Iterator[Logged]:
    made = Logged()
    yield made
    made.reports.log.close()


@pytest.mark.parametrize(
    ("attested", "refused", "event", "interfaces"),
    [
        (None, "Policy: no.", "a caller was refused", []),
        (PeerNetwork("networked", ("eth0",)), None, "a caller has a network", ["eth0"]),
        (PeerNetwork("unknown"), None, "a caller's network could not be seen", []),
    ],
)
def test_a_caller_is_logged_as_refused_or_with_its_network(
    attested: PeerNetwork | None, refused: str | None, event: str, interfaces: list[str], logged: Logged
) -> None:
    caller = Caller(listener="unix:/m.sock", kind="unix", agent="coder", peer=CALLER.peer, attested=attested)
    logged.reports.caller_seen(caller, refused)
    (line,) = logged.lines()
    assert (line["level"], line["event"]) == ("warning", event)
    assert (line["agent"], line["pid"], line["uid"]) == ("coder", 7, 1000)
    assert line["interfaces"] == interfaces
    assert line.get("reason") == refused


def test_a_caller_without_credentials_has_no_uid(logged: Logged) -> None:
    logged.reports.caller_seen(Caller(listener="vsock:5", kind="vsock"), "Policy: no.")
    (line,) = logged.lines()
    assert (line["pid"], line["uid"]) == (0, None)


def test_a_failed_listing_names_its_provider_once(logged: Logged) -> None:
    logged.reports.listing_failed("up", "up: It refused the connection.")
    (line,) = logged.lines()
    assert (line["provider"], line["reason"]) == ("up", "It refused the connection.")


@pytest.mark.parametrize(
    ("name", "caller", "fields"),
    [
        (CircuitName("up"), ALL_CALLERS, {"caller": "everybody"}),
        (CircuitName("up", 1), ALL_CALLERS, {"caller": "everybody", "key": 1}),
        (
            CircuitName("up", ANY_KEY, "m", "messages"),
            "agent:a",
            {"caller": "agent:a", "model": "m", "endpoint": "messages"},
        ),
    ],
)
def test_an_opened_circuit_is_logged_with_its_scope(
    name: CircuitName, caller: str, fields: dict[str, object], logged: Logged
) -> None:
    health = CircuitState(state="open", reason="It failed.")
    logged.reports.circuit_opened(CircuitStatus(name, caller, health))
    (line,) = logged.lines()
    assert line["provider"] == "up"
    assert line["reason"] == "It failed."
    assert {key: line[key] for key in ("caller", "key", "model", "endpoint") if key in line} == fields


def test_a_record_reaches_every_sink(logged: Logged) -> None:
    class Kept:
        def __init__(self) -> None:
            self.records: list[Record | ToolRecord] = []

        def record(self, record: Record | ToolRecord, /) -> None:
            self.records.append(record)

    kept = Kept()
    logged.reports.sinks.append(kept)
    done = record()
    logged.reports.started(done.listener)
    logged.reports.record(done)
    assert kept.records == [done]
    (line,) = logged.lines()
    assert line["event"] == "call"
    assert "1 calls, 0 in flight" in repr(logged.reports.metrics)


def test_breakers_are_one_for_each_key_and_those_that_are_not_closed() -> None:
    class Standing(Circuits):
        def unhealthy(self) -> list[CircuitStatus]:
            return [
                CircuitStatus(CircuitName("up", 0), ALL_CALLERS, CircuitState(state="half_open")),
                CircuitStatus(CircuitName("up", ANY_KEY, "m", "e"), "agent:a", CircuitState(state="open")),
            ]

    assert breakers(Standing(), {"up": 2, "other": 1}) == [
        Breaker("up", 1, "closed"),
        Breaker("other", 0, "closed"),
        Breaker("up", None, "open", model="m", endpoint="e", caller="agent:a"),
        Breaker("up", 0, "half_open"),
    ]
