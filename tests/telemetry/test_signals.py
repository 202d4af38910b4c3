from __future__ import annotations

from typing import get_args

from modelplex.server.routes import TELEMETRY
from modelplex.telemetry.signals import EMPTY, LABELS, MEMBERS, Encoding, Sender, Signal


def test_the_tables_have_every_signal_and_encoding() -> None:
    assert set(MEMBERS) == set(get_args(Signal)) == {path.rpartition("/")[2] for path in TELEMETRY}
    assert set(LABELS) == set(EMPTY) == set(get_args(Encoding))


def test_a_sender_is_named_by_what_the_gateway_knows() -> None:
    whole = Sender("agent:coder", "unix:/s", "coder", "run-1")
    assert whole.attributes == {
        "modelplex.agent.name": "coder",
        "modelplex.run.id": "run-1",
        "modelplex.listener": "unix:/s",
    }
    assert Sender("tcp:x", "tcp:x").attributes == {"modelplex.listener": "tcp:x"}
