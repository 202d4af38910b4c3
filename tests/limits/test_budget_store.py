"""What agents spent outlives the process; a file that cannot be used is an error that names it."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex.config.state_folder import state_folder
from modelplex.limits.agent_usage import AgentUsage
from modelplex.limits.budget_store import FILE, BudgetStore, BudgetStoreError

WAIT_S = 20.0


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def quiet(sentence: str) -> None:
    pytest.fail(sentence)


def test_additions_are_there_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "modelplex"
    store = BudgetStore(folder, report_error=quiet)
    assert store.stored == {}
    store.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    store.add("coder", "2026-01-31", AgentUsage(1, 5, 0.25))
    store.add("reader", "2026-02-01", AgentUsage(1, 1, 0.0))
    assert store.close()
    again = BudgetStore(folder, report_error=quiet)
    again.add("coder", "2026-01-31", AgentUsage(1, 1, 0.25))
    assert again.close()
    last = BudgetStore(folder, report_error=quiet)
    assert last.stored == {
        "coder": {"2026-01-31": AgentUsage(3, 16, 1.0)},
        "reader": {"2026-02-01": AgentUsage(1, 1, 0.0)},
    }
    assert last.close()


def test_additions_are_written_while_the_gateway_runs(tmp_path: Path) -> None:
    store = BudgetStore(tmp_path, report_error=quiet)
    store.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))

    def written() -> bool:
        with sqlite3.connect(tmp_path / FILE) as other:
            rows = other.execute("SELECT agent, tokens FROM spent").fetchall()
        other.close()
        return rows == [("coder", 10)]

    until(written)
    assert store.close()


def test_only_its_user_can_read_the_file(tmp_path: Path) -> None:
    store = BudgetStore(tmp_path / "state", report_error=quiet)
    assert store.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600


def test_two_gateways_may_add_to_one_file(tmp_path: Path) -> None:
    one, other = BudgetStore(tmp_path, report_error=quiet), BudgetStore(tmp_path, report_error=quiet)
    one.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    other.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    assert one.close()
    assert other.close()
    last = BudgetStore(tmp_path, report_error=quiet)
    assert last.stored["coder"]["2026-01-31"] == AgentUsage(2, 20, 1.0)
    assert last.close()


def foreign_additions(store: BudgetStore) -> list[tuple[str, str, AgentUsage]]:
    """The list that the additions of other gateways are appended to."""
    found: list[tuple[str, str, AgentUsage]] = []
    store.on_foreign = lambda agent, day, spent: found.append((agent, day, spent))
    return found


def test_each_gets_what_others_add_and_nothing_else(tmp_path: Path) -> None:
    one, other = BudgetStore(tmp_path, report_error=quiet), BudgetStore(tmp_path, report_error=quiet)
    of_one, of_other = foreign_additions(one), foreign_additions(other)
    one.add("coder", "2026-01-31", AgentUsage(1, 10, 0.1))
    until(lambda: of_other == [("coder", "2026-01-31", AgentUsage(1, 10, 0.1))])
    other.add("coder", "2026-01-31", AgentUsage(2, 20, 0.2))
    other.add("reader", "2026-02-01", AgentUsage(1, 1, 0.0))
    until(lambda: len(of_one) == 2)
    assert one.close()
    assert other.close()
    assert [(agent, day, spent.requests, spent.tokens) for agent, day, spent in of_one] == [
        ("coder", "2026-01-31", 2, 20),
        ("reader", "2026-02-01", 1, 1),
    ]
    assert of_one[0][2].usd == pytest.approx(0.2)
    assert len(of_other) == 1


def test_what_others_add_before_the_callback_is_set_is_not_lost(tmp_path: Path) -> None:
    one, other = BudgetStore(tmp_path, report_error=quiet), BudgetStore(tmp_path, report_error=quiet)
    other.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
    assert other.close()
    one._poll()
    found = foreign_additions(one)
    until(lambda: found == [("coder", "2026-01-31", AgentUsage(1, 10, 0.5))])
    assert one.close()


def test_a_file_that_is_no_database_is_an_error_that_names_it_and_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, and long enough to be read " * 20)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(BudgetStoreError) as fault:
        BudgetStore(tmp_path, report_error=quiet)
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
def test_an_invalid_row_is_an_error_that_names_the_file(tmp_path: Path, row: tuple[object, ...]) -> None:
    """SQLite stores any value; it must not raise a budget or break a sum later."""
    assert BudgetStore(tmp_path, report_error=quiet).close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", row)
    database.close()
    with pytest.raises(BudgetStoreError, match=r"agents\.sqlite: the row of .* is invalid"):
        BudgetStore(tmp_path, report_error=quiet)


def test_a_file_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(BudgetStoreError, match="a later version of Modelplex wrote it"):
        BudgetStore(tmp_path, report_error=quiet)


def test_a_folder_that_cannot_be_created_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(BudgetStoreError, match=str(tmp_path / "taken" / "state")):
        BudgetStore(tmp_path / "taken" / "state", report_error=quiet)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into every file")
def test_a_read_only_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    assert BudgetStore(tmp_path, report_error=quiet).close()
    (tmp_path / FILE).chmod(0o400)
    with pytest.raises(BudgetStoreError, match="permission denied"):
        BudgetStore(tmp_path, report_error=quiet)


def test_a_failed_write_is_reported_once_and_repeated_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelplex.limits.budget_store.RETRY_S", 0.01)
    reported: list[str] = []
    store = BudgetStore(tmp_path, report_error=reported.append)
    limit = store._database.execute("PRAGMA max_page_count").fetchone()[0]
    store._database.execute("PRAGMA max_page_count = 1")  # as a full disk: no new page can be had
    pad = "x" * 5000  # no page that is there has room for it
    store.add(pad, "2026-01-31", AgentUsage(1, 10, 0.5))
    until(lambda: store.failures > 2)
    assert len(reported) == 1
    assert str(tmp_path / FILE) in reported[0]
    assert "full" in reported[0]
    store.add(pad, "2026-01-31", AgentUsage(1, 10, 0.5))
    store._database.execute(f"PRAGMA max_page_count = {limit}")
    until(lambda: len(reported) == 2)
    assert store.close()
    last = BudgetStore(tmp_path, report_error=quiet)
    assert last.stored[pad]["2026-01-31"] == AgentUsage(2, 20, 1.0)
    assert last.close()


def test_a_close_that_cannot_write_returns_false_and_reports_it(tmp_path: Path) -> None:
    reported: list[str] = []
    store = BudgetStore(tmp_path, report_error=reported.append)
    store._database.execute("PRAGMA max_page_count = 1")
    store.add("x" * 5000, "2026-01-31", AgentUsage(1, 10, 0.5))
    assert not store.close()
    assert reported


@pytest.mark.parametrize(
    ("configured", "environ", "folder"),
    [
        ("./here", {"XDG_STATE_HOME": "/x"}, "here"),
        (None, {"XDG_STATE_HOME": "/x"}, "/x/modelplex"),
        (None, {"XDG_STATE_HOME": "not/absolute"}, "/home/a/.local/state/modelplex"),
        (None, {}, "/home/a/.local/state/modelplex"),
    ],
)
def test_the_state_folder_follows_the_config_or_the_desktop(
    configured: str | None, environ: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    assert state_folder(configured, environ=environ) == Path(folder)


def test_what_is_being_written_still_waits(tmp_path: Path) -> None:
    store = BudgetStore(tmp_path, report_error=quiet)
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        store.add("coder", "2026-01-31", AgentUsage(1, 10, 0.5))
        until(lambda: not store._waiting)
        assert store.waiting == 1
        other.execute("ROLLBACK")
    other.close()
    until(lambda: store.waiting == 0)
    assert store.close()
