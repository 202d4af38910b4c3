"""What a batch of Records becomes in the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelplex.core.caller import Peer, PeerNetwork
from modelplex.records.record import AS_RECEIVED, AttemptRecord
from modelplex.records.store import queries
from modelplex.records.store.database import Database, StoreUnavailable
from modelplex.records.store.writer import FRESH_S, RecordWriter
from modelplex.records.store_sink import RunInfo
from tests.records.store import stored
from tests.records.store.session import session
from tests.records.store.stored import NOW, Switched, body, record, tool_record, write


def count(db: Database, table: str) -> int:
    ((found,),) = db.query(f"SELECT count(*) FROM {table}")
    return int(found)


def test_a_conversation_costs_what_each_call_adds(db: Database) -> None:
    calls = stored.conversation(20)
    write(db, *calls)
    for call in calls:
        assert queries.request_body(db, call.id) == call.request_body
    # One part for the system prompt, and two for each turn but the first.
    assert count(db, "parts") <= 1 + 39
    assert count(db, "nodes") == 39


def test_a_batch_that_is_written_twice_leaves_the_same_rows(db: Database) -> None:
    calls = stored.conversation(5)
    tool = tool_record(9, request_body=b"{}")
    write(db, *calls, tool)
    before = {table: count(db, table) for table in ("calls", "bodies", "parts", "nodes", "runs")}
    write(db, *calls, tool)
    assert {table: count(db, table) for table in before} == before
    assert queries.request_body(db, "mpx-0005") == calls[4].request_body


def test_without_content_there_is_the_conversation_and_no_body(db: Database) -> None:
    write(db, *stored.conversation(3), using=stored.options(content=False))
    assert [count(db, table) for table in ("calls", "bodies", "parts", "nodes")] == [3, 0, 0, 0]
    assert "words of a turn" not in stored.contents(db)
    (run,) = queries.recent_runs(db)
    assert [call.relation for call in queries.calls_of_run(db, run.id)] == ["root", "turn", "turn"]
    assert [call.messages for call in queries.calls_of_run(db, run.id)] == [1, 3, 5]


def test_what_a_process_restarted_in_between_writes_is_joined(db: Database) -> None:
    calls = stored.conversation(6)
    write(db, *calls[:3])
    write(db, *calls[3:])
    assert {call.run for call in queries.recent_calls(db)} == {"run-0001"}
    assert [call.relation for call in queries.calls_of_run(db, "run-0001")] == ["root", *["turn"] * 5]
    assert count(db, "nodes") == 11
    for call in calls:
        assert queries.request_body(db, call.id) == call.request_body


def test_what_is_used_again_is_seen_again_once_an_hour(db: Database) -> None:
    writer = RecordWriter(db, stored.options())
    calls = stored.conversation(4)
    writer.write(calls[:2], now=NOW)
    writer.write(calls[2:3], now=NOW + FRESH_S - 1)
    ((oldest,),) = db.query("SELECT min(seen) FROM parts")
    assert oldest == NOW
    writer.write(calls[3:], now=NOW + FRESH_S + 1)
    for table in ("parts", "nodes"):
        ((oldest,),) = db.query(f"SELECT min(seen) FROM {table}")
        assert oldest >= NOW + FRESH_S - 1


def test_secrets_of_the_config_are_masked_everywhere(db: Database) -> None:
    canary = "sk-canary-0123456789"
    run = RunInfo(id="run-1", started=NOW, command=f"tool --key {canary}", branch=canary, tags={"k": canary})

    def mask(text: bytes) -> bytes:
        return text.replace(canary.encode(), b"****")

    write(
        db,
        record(1, body(canary * 50, system=canary), canary.encode(), error=canary, requested_model=canary),
        record(2, b"no json " + canary.encode(), code=canary),
        tool_record(
            3, tool=canary, error=canary, request_body=canary.encode(), response_body=canary.encode()
        ),
        using=stored.options(run=run, mask=mask),
    )
    assert canary not in stored.contents(db)
    assert "****" in stored.contents(db)
    found = queries.one_call(db, "mpx-0001")
    assert found is not None
    assert found.detail.masked


def test_every_call_of_modelplex_run_is_in_its_run(db: Database) -> None:
    run = RunInfo(
        id="run-1",
        started=NOW - 1,
        agent="a",
        command="python x.py",
        repository="r",
        branch="b",
        tags={"pr": "12"},
    )
    writer = RecordWriter(db, stored.options(run=run))
    writer.write([record(1), record(2, client="10.0.0.1"), tool_record(3)], now=NOW)
    writer.end_runs(["run-1"], at=NOW + 60)
    (found,) = queries.recent_runs(db)
    assert (found.calls, found.tool_calls, found.ended, found.tags) == (2, 1, NOW + 60, {"pr": "12"})
    assert (found.command, found.repository, found.branch, found.kind) == ("python x.py", "r", "b", "run")


def test_what_a_database_refuses_is_left_out_and_counted(db: Database) -> None:
    writer = write(db, record(1), record(2, bytes_out=2**70), record(3))
    assert [call.id for call in queries.recent_calls(db)] == ["mpx-0003", "mpx-0001"]
    assert writer.refused == 1


@pytest.mark.parametrize("text", ["nul \0 in it", "a lone \ud800 surrogate", "x" * 10_000, "ünï"])
def test_any_text_can_be_written(db: Database, text: str) -> None:
    writer = write(db, record(1, error=text, requested_model=text), tool_record(2, tool=text, error=text))
    assert writer.refused == 0
    assert len(queries.recent_calls(db)) == 2


def test_the_process_that_connected_is_written(db: Database) -> None:
    write(db, record(1, peer=Peer(7, 1000, 1000), peer_network=PeerNetwork("networked", ("eth0",))))
    found = queries.one_call(db, "mpx-0001")
    assert found is not None
    assert (found.call.pid, found.call.reach) == (7, "networked")
    assert (found.detail.uid, found.detail.interfaces) == (1000, ("eth0",))


def test_a_response_that_was_not_kept_whole_is_said_to_be_cut(db: Database) -> None:
    write(
        db, record(1, b"{}", b"12", bytes_out=3), tool_record(2, request_body=b"1", bytes_in=9, bytes_out=0)
    )
    details = [queries.one_call(db, each) for each in ("mpx-0001", "mpx-t0002")]
    assert [each.detail.cut for each in details if each] == [("response",), ("request",)]


def test_after_a_failure_everything_is_written_again(tmp_path: Path) -> None:
    db = Switched(stored.database(tmp_path))
    writer = RecordWriter(db, stored.options())
    calls = stored.conversation(4)
    writer.write(calls[:2], now=NOW)
    db.is_down = True
    with pytest.raises(StoreUnavailable):
        writer.write(calls[2:], now=NOW)
    db.is_down = False
    writer.write(calls[2:], now=NOW)
    for call in calls:
        assert queries.request_body(db, call.id) == call.request_body
    assert {call.run for call in queries.recent_calls(db)} == {"run-0001"}


def test_a_session_of_200_turns_is_20_times_smaller_than_its_bodies(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    writer = RecordWriter(db, stored.options())
    calls = list(session())
    for number in range(0, len(calls), 5):
        writer.write(calls[number : number + 5], now=NOW + number)
    db.query("PRAGMA wal_checkpoint(TRUNCATE)")
    bodies = sum(len(call.request_body or b"") + len(call.response_body or b"") for call in calls)
    size = sum(file.stat().st_size for file in tmp_path.iterdir() if file.name.startswith("records.sqlite"))
    size -= (tmp_path / "records.sqlite-shm").stat().st_size  # memory, not a part of the store
    assert bodies > 20_000_000
    assert bodies / size > 20, f"{bodies} bytes of bodies in {size}"
    assert {call.relation for call in queries.recent_calls(db, limit=500)} == {"root", "turn"}
    for call in calls[::17]:
        assert queries.request_body(db, call.id) == call.request_body
        assert queries.response_body(db, call.id) == call.response_body


def attempts(*sent: bytes | None, dialect: str = "x") -> dict[str, Any]:
    made = (AttemptRecord("p", "m-1", 0, "ok", dialect=dialect, sent=each) for each in sent)
    return {"attempts": tuple(made)}


def test_what_went_to_providers_is_given_back_exactly(db: Database) -> None:
    """A translated session costs its delta too: each message is stored once in each form."""
    texts: list[str] = []
    expected: dict[str, tuple[bytes, bytes]] = {}
    for number in range(1, 21):
        texts += [f"{number} asks " + "words " * 100, f"{number} answers " + "words " * 100]
        received, sent = body(*texts), body(*texts, system="translated " * 40, stream_options={"x": 1})
        call = record(number, received, b"ok", **attempts(None, AS_RECEIVED, sent))
        write(db, call)
        expected[call.id] = (received, sent)
    for id_, (received, sent) in expected.items():
        found = [queries.sent_body(db, id_, attempt) for attempt in range(5)]
        assert found == [None, None, received, sent, None]
    # Forty messages and one system prompt, whose hashes are alike in both forms.
    assert count(db, "parts") == 41
    assert count(db, "sent") == 20


def test_small_bodies_and_forms_that_went_to_providers(db: Database) -> None:
    write(db, record(1, b"--b form", None, **attempts(b"--b another form")))
    write(db, record(2, None, None, **attempts(b"alone")))
    assert queries.sent_body(db, "mpx-0001", 1) == b"--b another form"
    assert queries.sent_body(db, "mpx-0002", 1) == b"alone"
    assert queries.sent_body(db, "none", 1) is None


def test_headers_are_stored_once_and_without_secrets(db: Database) -> None:
    headers = (("user-agent", "agent/1 secret-of-config"), ("x-api-key", "(not kept)"))

    def mask(data: bytes) -> bytes:
        return data.replace(b"secret-of-config", b"********")

    using = stored.options(mask=mask)
    write(db, *(record(number, b"{}", headers=headers) for number in range(3)), using=using)
    found = queries.one_call(db, "mpx-0001")
    assert found is not None
    assert queries.request_headers(db, found) == [
        ("user-agent", "agent/1 ********"),
        ("x-api-key", "(not kept)"),
    ]
    assert count(db, "parts") == 1
    write(db, record(4))
    bare = queries.one_call(db, "mpx-0004")
    assert bare is not None
    assert queries.request_headers(db, bare) == []


def test_without_content_neither_headers_nor_sent_bodies_are_stored(db: Database) -> None:
    call = record(1, b"{}", headers=(("accept", "x"),), **attempts(b"{ }"))
    write(db, call, using=stored.options(content=False))
    assert [count(db, table) for table in ("parts", "sent", "bodies")] == [0, 0, 0]


def test_a_call_that_goes_on_from_a_stored_response_is_its_child(db: Database) -> None:
    write(db, record(1, body("one"), b"ok", response_id="resp_1"))
    # Another process writes the next one.
    write(db, record(2, body("two"), b"ok", previous_response="resp_1", response_id="resp_2"))
    write(db, record(3, body("two"), b"ok", client="elsewhere"))
    calls = {call.id: call for call in queries.recent_calls(db)}
    assert (calls["mpx-0002"].parent, calls["mpx-0002"].relation) == ("mpx-0001", "turn")
    assert calls["mpx-0002"].run == calls["mpx-0001"].run
    assert (calls["mpx-0003"].parent, calls["mpx-0003"].relation) == (None, "root")
