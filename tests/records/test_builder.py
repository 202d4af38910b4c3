"""A RecordBuilder collects the events of a call."""

from modelplex.core.caller import Caller
from modelplex.core.errors import UpstreamTimeout
from modelplex.core.request import Attempt, RawRequest
from modelplex.records.builder import RecordBuilder


def test_time_that_earlier_attempts_and_waits_took_is_not_our_own() -> None:
    journal = RecordBuilder(
        id="r",
        request=RawRequest("chat/completions", "openai_chat", "m", b"", {}),
        caller=Caller(listener="tcp:x", kind="tcp", client="c"),
        started=100.0,
        wall_time=0.0,
    )
    assert journal.overhead() == 0.0
    first = Attempt(provider="slow", model="m", dialect="openai_chat", number=1)
    journal.attempt, journal.upstream_sent = first, 100.25
    assert journal.overhead() == 0.25
    journal.add_attempt(first, UpstreamTimeout("Nothing came."), started=0.0, seconds=30.0)
    assert journal.overhead() == 0.25
    second = Attempt(provider="quick", model="m", dialect="openai_chat", number=2)
    journal.queued = 1.0
    journal.attempt, journal.upstream_sent = second, 131.5
    assert journal.overhead() == 0.5
    journal.add_attempt(second, None, started=0.0, seconds=2.0)
    assert journal.record(now=134.0).times.overhead == 0.5
