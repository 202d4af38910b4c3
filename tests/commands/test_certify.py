"""`modelplex certify` states what was measured and recorded, and names what did not hold."""

from __future__ import annotations

import argparse
import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from modelplex.commands.certify import certificate, certify
from modelplex.records.ed25519 import public_key
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.record_queue import Stored
from modelplex.records.run_facts import RunFacts, SandboxFacts
from modelplex.records.store.database import open_database
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import RunInfo, StoreOptions
from tests.records.store import stored
from tests.records.store.test_verify import KEY, signed
from tests.replay.test_stored_run import record

ALONE = SandboxFacts(interfaces=("lo",), routes=0, own_network=True)
FACTS = RunFacts(
    id="mpx-facts", started=1000.0, run="run-1", sandbox=ALONE, sealed=True, version="1.0", config="ab"
)
TOOL = stored.tool_record(id="mpx-9", started=1009.0, tool="log", bytes_in=12)


def asked(number: int) -> Record:
    attempt = AttemptRecord("up", "m-1", 0, "ok", status=200, bytes_sent=100)
    return record(number, provider="up", model="m-1", attempts=(attempt,), bytes_out=9)


def store(folder: Path, *records: Stored, content: bool = True) -> Path:
    place = folder / "records.sqlite"
    database = open_database(place)
    run = RunInfo(id="run-1", started=1.0)
    writer = RecordWriter(database, StoreOptions(content=content, run=run, sign=signed))
    writer.write(records, now=1000.0)
    writer.end_run(1002.0)
    database.close()
    return place


def shown(place: Path, *, json: bool = False) -> int:
    database = open_database(place, read_only=True)
    try:
        return certify(argparse.Namespace(run="run-1", json=json), database)
    finally:
        database.close()


@pytest.mark.parametrize("content", [True, False])
def test_what_held_is_printed(content: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = store(tmp_path, FACTS, asked(1), asked(2), TOOL, content=content)
    assert shown(place) == 0
    assert capsys.readouterr().out.splitlines() == [
        "network   held: no interface but lo, and no route out, measured inside at the start",
        "openings  held: nothing besides the gateway",
        "policy    held: sealed",
        f"chain     held: 4 records, all as written; signed by ed25519:{public_key(KEY).hex()}",
        "models    m-1 of up (2)",
        "tools     log of git (1)",
        "bytes out 200 in 2 requests to providers, 12 in 1 call of tools",
        "gateway   1.0",
        "config    sha256:ab",
        "run-1: all of this held",
    ]


def with_sandbox(**more: object) -> RunFacts:
    return msgspec.structs.replace(FACTS, sandbox=msgspec.structs.replace(ALONE, **more))


@pytest.mark.parametrize(
    ("facts", "name", "text"),
    [
        (with_sandbox(interfaces=("lo", "eth0")), "network", "inside there were interfaces eth0"),
        (with_sandbox(routes=2), "network", "inside there were 2 routes that do not end at lo"),
        (with_sandbox(own_network=False), "network", "inside there were the network namespace of the host"),
        (
            with_sandbox(openings=("allow-port 5432",)),
            "openings",
            "opened besides the gateway: allow-port 5432",
        ),
        (msgspec.structs.replace(FACTS, sealed=False), "policy", "not sealed"),
    ],
)
def test_what_did_not_hold_is_named(
    facts: RunFacts, name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(store(tmp_path, facts, asked(1))) == 1
    out = capsys.readouterr().out
    assert f"{name:<9} did not hold: {text}\n" in out
    assert out.endswith(f"run-1: not certified: {name}\n")


def test_a_policy_that_was_opened_later_did_not_hold(tmp_path: Path) -> None:
    later = msgspec.structs.replace(FACTS, id="mpx-later", started=1500.0, sealed=False, config="cd")
    database = open_database(store(tmp_path, FACTS, asked(1), later), read_only=True)
    made = certificate(database, "run-1")
    database.close()
    (policy,) = (check for check in made.checks if check.name == "policy")
    assert (policy.held, policy.text) == (False, "not sealed, in 1 of 2 versions of the config")
    assert made.config == ["ab", "cd"]


def test_the_policy_of_an_agent_that_a_token_named_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = msgspec.structs.replace(asked(2), agent="other")
    assert shown(store(tmp_path, FACTS, asked(1), other)) == 1
    out = capsys.readouterr().out
    assert "policy    not measured: for calls of other, by its token" in out
    assert out.endswith("run-1: not certified: policy\n")


def test_rules_that_are_open_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(store(tmp_path, msgspec.structs.replace(FACTS, allowed=("web-search",)))) == 0
    assert "policy    held: sealed, with web-search allowed\n" in capsys.readouterr().out


def test_what_was_not_measured_is_not_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(store(tmp_path, asked(1)), json=True) == 1
    made = json.loads(capsys.readouterr().out)
    assert {check["name"]: check["held"] for check in made["checks"]} == {
        "network": None,
        "openings": None,
        "policy": None,
        "chain": True,
    }
    assert (made["holds"], made["bytes_out"]["to_providers"], made["version"]) == (False, None, [])


def test_edited_facts_are_no_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = store(tmp_path, msgspec.structs.replace(FACTS, sealed=False), asked(1))
    with sqlite3.connect(place) as connection:
        ((detail,),) = connection.execute("SELECT detail FROM calls WHERE kind = 'facts'").fetchall()
        value = json.loads(detail)
        value["facts"]["sealed"] = True
        connection.execute("UPDATE calls SET detail = ? WHERE kind = 'facts'", (json.dumps(value),))
    connection.close()
    assert shown(place) == 1
    out = capsys.readouterr().out
    assert "chain     did not hold: record 1 (mpx-facts) was edited\n" in out
    assert out.endswith("run-1: not certified: chain\n")


def test_facts_are_no_calls(tmp_path: Path) -> None:
    from modelplex.records.store.queries import calls_of_run, one_run, recent_calls, usage

    session = msgspec.structs.replace(TOOL, id="mpx-5", method="initialize", is_call=False)
    database = open_database(store(tmp_path, FACTS, session, asked(1), TOOL), read_only=True)
    assert [call.id for call in calls_of_run(database, "run-1")] == ["mpx-1", "mpx-9"]
    assert [call.id for call in recent_calls(database)] == ["mpx-9", "mpx-1"]
    run = one_run(database, "run-1")
    assert run is not None
    assert (run.calls, run.tool_calls, run.failed, sum(row.calls for row in usage(database))) == (1, 1, 0, 2)
    database.close()


def test_a_run_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = open_database(store(tmp_path, FACTS), read_only=True)
    assert certify(argparse.Namespace(run="run-2", json=False), database) == 1
    database.close()
    assert "there is no run run-2" in capsys.readouterr().err
