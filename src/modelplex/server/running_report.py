"""The log line about calls in flight, for somebody who watches the log: a long response, and a
provider that is silent, are no line of their own until they end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter
from typing import Final, NamedTuple

from modelplex.records.log import EventLog
from modelplex.server.app import App

EVERY_S: Final = 15.0
"""Between two lines. A call that is younger is not listed."""
NAMED: Final = 5
"""Calls that a line names, those that have run longest."""


class RunningCall(NamedTuple):
    """`sent` is the bytes of its response so far."""

    model: str
    provider: str
    agent: str
    seconds: float
    sent: int


async def report_running(app: App, log: EventLog, *, every: float = EVERY_S) -> None:
    """Log a line every so often, where there is a call to report. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(every)
        if lines := running_line(_calls(app, now=perf_counter()), least=every):
            log.info("in flight", **lines)


def running_line(calls: Iterable[RunningCall], *, least: float) -> dict[str, object]:
    """The fields of the line; empty where no call has run for `least` seconds."""
    found = sorted((call for call in calls if call.seconds >= least), key=lambda call: -call.seconds)
    return {"calls": len(found), "longest": [_text(call) for call in found[:NAMED]]} if found else {}


def _text(call: RunningCall) -> str:
    route = f"{call.model} → {call.provider}" if call.provider else call.model
    agent = f" of {call.agent}" if call.agent else ""
    sent = f"{call.sent / 1000:.1f} KB" if call.sent else "no output yet"
    return f"{route}{agent} {call.seconds:.0f}s {sent}"


def _calls(app: App, *, now: float) -> Iterable[RunningCall]:
    for response, record in app.running.items():
        if record is not None and record.request.model:
            attempt = record.attempt
            yield RunningCall(
                record.request.model,
                attempt.provider if attempt is not None else "",
                record.caller.agent,
                now - record.started,
                response.sent,
            )
