"""`modelplex acts`, and what admins did in `modelplex show`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from modelplex.cli import main
from modelplex.records.admin_act import AdminAct
from modelplex.records.ed25519 import public_key, sign
from modelplex.records.store.database import open_database
from modelplex.records.store.queries import calls_of_run, recent_acts, usage
from modelplex.records.store.retention import Retention
from modelplex.records.store.verify import verify_run
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import RetentionRules, RunInfo, StoreOptions
from tests.records.store.stored import NOW, record

KEY = b"k" * 32
SECRET = b"very-secret-value"
STOPPED = AdminAct(
    id="mpx-a1",
    started=NOW + 5,
    act="stop",
    target="run run-1",
    by="token",
    admin="ops",
    client="192.0.2.1",
    detail={"stopped": 1},
    runs=("run-1",),
)
REFUSED = AdminAct(
    id="mpx-a2",
    started=NOW + 6,
    act="stop",
    target="\x1b[31m very-secret-value",
    outcome="refused",
    code="admin_may_not",
    listener="unix:/a",
    pid=7,
    uid=0,
    omitted=3,
)


def store(folder: Path) -> Path:
    place = folder / "records.sqlite"
    database = open_database(place)
    options = StoreOptions(
        run=RunInfo(id="run-1", started=NOW),
        host="rack-1",
        sign=lambda message: (public_key(KEY), sign(KEY, message)),
        mask=lambda text: text.replace(SECRET, b"********"),
    )
    writer = RecordWriter(database, options)
    writer.write([record(1), STOPPED, REFUSED], now=NOW + 7)
    writer.end_run(NOW + 8)
    database.close()
    return place


def test_they_are_listed_and_shown_with_their_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = str(store(tmp_path))
    assert main(["acts", "--store", place]) == 0
    head, second, first = capsys.readouterr().out.splitlines()
    assert head.split() == ["time", "host", "who", "from", "act", "target", "outcome", "request", "what"]
    for part in ("rack-1", "ops (token)", "192.0.2.1", "run run-1", '{"stopped":1}'):
        assert part in first
    for part in ("nobody", "unix:/a pid 7 uid 0", "refused admin_may_not", "3 refused before it", "********"):
        assert part in second
    assert "\x1b" not in second
    assert SECRET.decode() not in second
    assert main(["acts", "--store", place, "--json", "--limit", "1", "--run", "run-1"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["outcome"]) == ("mpx-a2", "refused")
    assert main(["acts", "--store", place, "--since", "soon"]) == 2
    capsys.readouterr()
    assert main(["show", "run-1", "--store", place]) == 0
    assert "ops (token): stop run run-1 (ok)" in capsys.readouterr().out


def test_the_chain_of_a_run_covers_them_and_they_are_no_calls(tmp_path: Path) -> None:
    place = store(tmp_path)
    database = open_database(place)
    assert verify_run(database, "run-1").faults == []
    assert [call.id for call in calls_of_run(database, "run-1")] == ["mpx-0001"]
    assert [row.calls for row in usage(database)] == [1]
    database.write([("DELETE FROM calls WHERE id = ?", [("mpx-a1",)])])
    assert verify_run(database, "run-1").faults == ["record 2 (mpx-a1) was removed"]
    database.close()


def test_a_store_that_is_too_large_keeps_them_and_an_old_one_does_not(tmp_path: Path) -> None:
    database = open_database(store(tmp_path))
    for rules, now, left in (
        (RetentionRules(max_size=1), NOW + 100, ["mpx-a1"]),
        (RetentionRules(max_age=10.0), NOW + 1000, []),
    ):
        due = Retention(rules)
        for number in range(400):
            due.step(database, now=now + number)
        assert [act.id for act in recent_acts(database)] == left
    database.close()


NINE = 1_796_202_000.0
"""2026-12-02, 09:00 UTC."""
SHOWN = (
    AdminAct(
        id="mpx-4f0a11c2-000017",
        started=NINE + 130,
        act="stop",
        outcome="refused",
        code="admin_may_not",
        by="token",
        admin="prometheus",
        client="192.0.2.9",
    ),
    AdminAct(
        id="mpx-4f0a11c2-000021",
        started=NINE + 644,
        act="put agent",
        target="agent t-17",
        by="socket",
        listener="unix:./admin.socket",
        pid=812,
        uid=1000,
        detail={"outcome": "created"},
    ),
    AdminAct(
        id="mpx-4f0a11c2-000038",
        started=NINE + 847,
        act="stop",
        target="agent coder",
        by="token",
        admin="on-call",
        client="192.0.2.7",
        detail={"stopped": 2},
    ),
)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "how-to" / "admins.md"


def test_the_page_shows_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    database = open_database(tmp_path / "records.sqlite")
    RecordWriter(database, StoreOptions(host="rack-7")).write(SHOWN, now=NINE)
    database.close()
    command, *lines = PAGE.read_text().partition("```text\n")[2].partition("```")[0].splitlines()
    words, _, width = command.removeprefix("$ modelplex ").partition(" | cut -c 1-")
    assert main([*words.split(), "--store", str(tmp_path / "records.sqlite")]) == 0
    printed = [row[: int(width)].rstrip() for row in capsys.readouterr().out.splitlines()]
    assert lines == printed, "\n".join(printed)
