"""`modelplex usage`, with the same answers from both databases."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

from modelplex import cli
from modelplex.commands.usage import NUMBERS
from modelplex.records.store.database import open_database
from tests.commands.recorded import RUN, calls
from tests.records.store import stored


def test_a_table_has_a_last_line_for_all(modelplex: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = modelplex("usage")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0
    assert lines[0][:3] == ["agent", "model", "calls"]
    assert lines[1] == ["coder", "m-1", "4", "1", "1", "30", "10", "6", "$0.5"]
    assert lines[-1][:2] == ["all", "5"]


def test_json_and_csv_have_the_same_rows(modelplex: Callable[..., tuple[int, str, str]]) -> None:
    rows = json.loads(modelplex("usage", "--by", "model,tag.pr,day", "--json")[1])
    table = list(csv.DictReader(io.StringIO(modelplex("usage", "--by", "model,tag.pr,day", "--csv")[1])))
    assert len(rows) == len(table) == 2
    for row, line in zip(rows, table, strict=True):
        assert {**row["group"], **{name: str(row[name]) for name in NUMBERS}} == line


def test_an_unknown_group_is_refused(modelplex: Callable[..., tuple[int, str, str]]) -> None:
    for words in (("--by", "agent,detail"), ("--since", "now")):
        status, out, err = modelplex("usage", *words)
        assert (status, out) == (2, "")
        assert words[0] in err


def test_both_databases_answer_alike(
    place: str, postgresql_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    database = open_database(postgresql_address)
    tool = stored.tool_record(5, agent="coder", request_body=b'{"a":1}', response_body=b'{"content":[]}')
    stored.write(database, *calls(), tool, using=stored.options(run=RUN))
    database.close()
    for words in (
        ["usage"],
        ["usage", "--by", "agent,model,provider,tag,day", "--json"],
        ["usage", "--by", "tag.pr,outcome,kind", "--csv"],
        ["usage", "--since", "2026-11-30", "--by", "tool,server"],
        ["usage", "--by", "host,agent"],
        ["runs"],
        ["runs", "--host", "rack-1"],
        ["show", "run-1"],
        ["show", "mpx-0002"],
        ["export", "run-1"],
    ):
        found: list[str] = []
        for store in (place, postgresql_address):
            assert cli.main([*words, "--store", store]) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1], words
        assert found[0]
