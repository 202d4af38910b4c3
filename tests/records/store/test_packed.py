"""Records as one blob, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from modelplex.core.caller import Peer, PeerNetwork
from modelplex.core.events import Iteration, Usage
from modelplex.core.request import Change, StrippedValue
from modelplex.core.trace_context import TraceContext
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.store import packed
from modelplex.records.store.packed import Pack, Packed, Turns
from modelplex.records.tool_call import ToolRecord
from tests.records.store import stored

TAGS = {"coder": {"team": "red"}}


def _full() -> Record:
    """A Record with a value in every field."""
    usage = Usage(fresh=1, iterations=(Iteration(fresh=1),) * 2, raw=b'{"x":1}', raw_of="gemini")
    made = stored.record(
        7,
        b"x" * 5_000,
        b"answer",
        agent="coder",
        run="run-1",
        peer=Peer(1, 2, 3),
        peer_network=PeerNetwork("networked", ("eth0",)),
        stream=True,
        passthrough=True,
        outcome="broken",
        blame="provider",
        error="gone",
        code="lost",
        rule="web-search",
        finish_reason="stop",
        usage=usage,
        attempts=(
            AttemptRecord(
                "p", "m", 1, "ok", 200, 1.5, "text", "up-1", usage, 0.5, 0.25, "gemini", b"y" * 3_000
            ),
        ),
        changes=(Change("drop", "a[0]", "why"),),
        stripped=(StrippedValue("/a", "rule"),),
        declared=9,
        headers=(("a", "b"),),
        response_id="resp-1",
        previous_response="resp-0",
        trace=TraceContext("1" * 32, "2" * 16, 1, "a=b"),
        tokens=b'{"choices":[]}',
    )
    defaults = {each.name: each.default for each in msgspec.structs.fields(Record)}
    assert not [name for name, value in msgspec.structs.asdict(made).items() if value == defaults[name]]
    return made


def _packed(records: Iterable[Record | ToolRecord], **more: Any) -> Packed:
    made = packed.pack(records, **more)
    assert made is not None
    return made.packed()


def test_records_are_given_back_as_they_were() -> None:
    records: list[Record | ToolRecord] = [
        *stored.conversation(20),
        stored.tool_record(1, request_body=b"{}", response_body=b"\xff"),
        _full(),
        stored.tool_record(2),
        stored.record(8, b"x" * 5_000 + b"z"),
    ]
    made = _packed(records, tags=TAGS)
    back = packed.unpack(made.blob)
    assert [record for record, _ in back.records] == records
    assert [turns for _, turns in back.records] == [None] * len(records)
    assert back.tags == TAGS


def test_a_conversation_takes_what_its_turns_add() -> None:
    records = stored.conversation(50)
    made = _packed(records, tags={})
    assert len(made.blob) < sum(len(record.request_body or b"") for record in records) / 10


def test_without_bodies_there_are_the_turns() -> None:
    turns = Turns((b"1" * 20, b"2" * 20), None)

    def _turns(_: Record) -> Turns:
        return turns

    records: list[Record | ToolRecord] = [
        _full(),
        stored.tool_record(1, request_body=b"secret text"),
        stored.record(2, b"text of it"),
    ]
    made = _packed(records, tags={}, turns=_turns)
    for body in (b"x" * 50, b"y" * 50, b"answer", b"secret text", b"text of it"):
        assert body not in made.blob
    back = packed.unpack(made.blob)
    assert [each for _, each in back.records] == [turns, None, turns]
    assert [record.id for record, _ in back.records] == [record.id for record in records]


def test_what_stands_across_a_cut_is_in_the_seams() -> None:
    """The second body goes on differently within the word."""
    word = b"sk-a-secret"
    first = b"x" * 2_950 + word[:5] + b"?" * 40
    second = b"x" * 2_950 + word + b"." * 40
    made = _packed([stored.record(1, first), stored.record(2, second)], tags={})
    assert word not in made.blob
    assert word in made.seams


def test_what_the_form_cannot_express_is_not_packed() -> None:
    assert packed.pack([stored.record(1, error="\ud800")], tags={}) is None
    assert packed.pack([stored.record(1, bytes_in=2**64)], tags={}) is None


def test_bodies_of_conversations_in_turn_are_each_compared_with_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed, "COMPARED_BYTES", 60_000)
    records: list[Record | ToolRecord] = [
        stored.record(number, b"%d" % (number % 3) * 5_000 + b"." * number) for number in range(30)
    ]
    made = _packed(records, tags={})
    assert len(made.blob) < 15_000 + 30 * 1_000
    assert [record for record, _ in packed.unpack(made.blob).records] == records


def test_no_more_bodies_are_kept_than_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Pack(tags={})
    for number in range(40):
        assert made.add(stored.record(number, b"%02d" % number * 2_000))
    assert len(made._bodies._known) == packed.COMPARED
    monkeypatch.setattr(packed, "COMPARED_BYTES", 10_000)
    assert made.add(stored.record(41, b"x" * 4_000))
    assert sum(len(body) for _, body in made._bodies._known) == made._bodies._bytes <= 10_000
