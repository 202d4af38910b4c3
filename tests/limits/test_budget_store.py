"""What agents spent survives the process; a file that cannot be used has an outcome of its own."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex.config.state_folder import state_folder
from modelplex.limits.agent_limits import AgentUsage
from modelplex.limits.budget_store import FILE, BudgetStore, BudgetStoreError

WAIT_S = 20.0


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def quiet(sentence: str) -> None:
    pytest.fail(sentence)


def test_what_was_added_is_there_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "modelplex"
    ledger = BudgetStore(folder, complain=quiet)
    assert ledger.kept == {}
    ledger.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    ledger.add("coder", "2026-01-31", AgentUsage(1, 5, 0.25))
    ledger.add("reader", "2026-02-01", AgentUsage(1, 1, 0.0))
    assert ledger.close()
    again = BudgetStore(folder, complain=quiet)
    again.add("coder", "2026-01-31", AgentUsage(1, 1, 0.25))
    assert again.close()
    last = BudgetStore(folder, complain=quiet)
    assert last.kept == {
        "coder": {"2026-01-31": AgentUsage(3, 16, 1.0)},
        "reader": {"2026-02-01": AgentUsage(1, 1, 0.0)},
    }
    assert last.close()


def test_it_is_written_while_the_gateway_runs(tmp_path: Path) -> None:
    ledger = BudgetStore(tmp_path, complain=quiet)
    ledger.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))

    def written() -> bool:
        with sqlite3.connect(tmp_path / FILE) as other:
            rows = other.execute("SELECT agent, tokens FROM spent").fetchall()
        other.close()
        return rows == [("coder", 10)]

    until(written)
    assert ledger.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    ledger = BudgetStore(tmp_path / "state", complain=quiet)
    assert ledger.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600


def test_two_gateways_may_add_to_one_file(tmp_path: Path) -> None:
    one, other = BudgetStore(tmp_path, complain=quiet), BudgetStore(tmp_path, complain=quiet)
    one.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    other.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    assert one.close()
    assert other.close()
    last = BudgetStore(tmp_path, complain=quiet)
    assert last.kept["coder"]["2026-01-31"] == AgentUsage(2, 20, 1.0)
    assert last.close()


def noted(ledger: BudgetStore) -> list[tuple[str, str, AgentUsage]]:
    """What it learns from here on."""
    told: list[tuple[str, str, AgentUsage]] = []

    def learned(agent: str, day: str, spent: AgentUsage) -> None:
        told.append((agent, day, spent))

    ledger.learned = learned
    return told


def test_each_learns_of_what_others_add_and_of_nothing_else(tmp_path: Path) -> None:
    one, other = BudgetStore(tmp_path, complain=quiet), BudgetStore(tmp_path, complain=quiet)
    told, told_other = noted(one), noted(other)
    one.add("coder", "2026-01-31", AgentUsage(1, 10, 0.1))
    until(lambda: told_other == [("coder", "2026-01-31", AgentUsage(1, 10, 0.1))])
    other.add("coder", "2026-01-31", AgentUsage(2, 20, 0.2))
    other.add("reader", "2026-02-01", AgentUsage(1, 1, 0.0))
    until(lambda: len(told) == 2)
    assert one.close()
    assert other.close()
    assert [(agent, day, spent.requests, spent.tokens) for agent, day, spent in told] == [
        ("coder", "2026-01-31", 2, 20),
        ("reader", "2026-02-01", 1, 1),
    ]
    assert told[0][2].usd == pytest.approx(0.2)
    assert len(told_other) == 1


def test_what_others_add_before_somebody_listens_is_not_lost(tmp_path: Path) -> None:
    one, other = BudgetStore(tmp_path, complain=quiet), BudgetStore(tmp_path, complain=quiet)
    other.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    assert other.close()
    one._look()
    told = noted(one)
    until(lambda: told == [("coder", "2026-01-31", AgentUsage(1, 10, 0.5))])
    assert one.close()


def test_a_file_that_is_no_database_is_a_fault_that_names_it_and_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, and long enough to be looked at " * 20)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(BudgetStoreError) as fault:
        BudgetStore(tmp_path, complain=quiet)
    assert str(tmp_path / FILE) in fault.value.sentence
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize(
    "row",
    [
        ("a", "2026-01-31", 1, "many", 0.0),
        ("a", "2026-01-31", 1, 1, "nan"),
        ("a", "2026-01-31", 1, -1, 0.0),
        ("a", "2026-01-31", 1, 1, -1.0),
        ("a", "2026-01-31", 1, 1, float("inf")),
        ("a", "someday", 1, 1, 0.0),
        (b"a", "2026-01-31", 1, 1, 0.0),
    ],
)
def test_a_row_that_is_no_count_is_a_fault_that_names_the_file(
    tmp_path: Path, row: tuple[object, ...]
) -> None:
    """SQLite keeps what it is given; a budget must not grow by it, and no sum must fail on it
    later.
    """
    assert BudgetStore(tmp_path, complain=quiet).close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", row)
    database.close()
    with pytest.raises(BudgetStoreError, match=r"agents\.sqlite: what it says of .* is no count"):
        BudgetStore(tmp_path, complain=quiet)


def test_a_file_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(BudgetStoreError, match="a later version of Modelplex wrote it"):
        BudgetStore(tmp_path, complain=quiet)


def test_a_folder_that_cannot_be_made_is_a_fault_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(BudgetStoreError, match=str(tmp_path / "taken" / "state")):
        BudgetStore(tmp_path / "taken" / "state", complain=quiet)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into every file")
def test_a_file_that_takes_no_writing_is_a_fault_at_the_start(tmp_path: Path) -> None:
    assert BudgetStore(tmp_path, complain=quiet).close()
    (tmp_path / FILE).chmod(0o400)
    with pytest.raises(BudgetStoreError, match="permission denied"):
        BudgetStore(tmp_path, complain=quiet)


def test_what_cannot_be_written_is_told_once_kept_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelplex.limits.budget_store.PAUSE_S", 0.01)
    said: list[str] = []
    ledger = BudgetStore(tmp_path, complain=said.append)
    limit = ledger._database.execute("PRAGMA max_page_count").fetchone()[0]
    ledger._database.execute("PRAGMA max_page_count = 1")  # as a full disk: no new page can be had
    pad = "x" * 5000  # no page that is there has room for it
    ledger.add(pad, "2026-01-31", AgentUsage(1, 10, 0.5))
    until(lambda: ledger.failures > 2)
    assert len(said) == 1
    assert str(tmp_path / FILE) in said[0]
    assert "full" in said[0]
    ledger.add(pad, "2026-01-31", AgentUsage(1, 10, 0.5))
    ledger._database.execute(f"PRAGMA max_page_count = {limit}")
    until(lambda: len(said) == 2)
    assert ledger.close()
    last = BudgetStore(tmp_path, complain=quiet)
    assert last.kept[pad]["2026-01-31"] == AgentUsage(2, 20, 1.0)
    assert last.close()


def test_a_stop_that_cannot_write_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    ledger = BudgetStore(tmp_path, complain=said.append)
    ledger._database.execute("PRAGMA max_page_count = 1")
    ledger.add("x" * 5000, "2026-01-31", AgentUsage(1, 10, 0.5))
    assert not ledger.close()
    assert said


@pytest.mark.parametrize(
    ("configured", "environ", "folder"),
    [
        ("./here", {"XDG_STATE_HOME": "/x"}, "here"),
        (None, {"XDG_STATE_HOME": "/x"}, "/x/modelplex"),
        (None, {"XDG_STATE_HOME": "not/absolute"}, "/home/a/.local/state/modelplex"),
        (None, {}, "/home/a/.local/state/modelplex"),
    ],
)
def test_the_state_folder_is_where_the_config_or_the_desktop_says(
    configured: str | None, environ: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    assert state_folder(configured, environ=environ) == Path(folder)
