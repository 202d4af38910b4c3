from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from modelplex.telemetry import kept
from modelplex.telemetry.kept import (
    FILE,
    KeptFilter,
    KeptRules,
    KeptTelemetry,
    KeptUnavailable,
    open_for_writing,
    read_kept,
    retain,
)
from modelplex.telemetry.signals import Item, Sender, Signal
from tests.records.test_store_sink import until

RULES = KeptRules(max_age=1_000.0, max_size=1_000_000)
CODER = Sender("agent:coder", "unix:/s", "coder", "run-1")
OTHER = Sender("agent:other", "unix:/o", "other")


def item(
    sender: Sender = CODER, *, at: float = 5_000.0, body: bytes = b"{}", signal: Signal = "logs"
) -> Item:
    return Item(at, sender, signal, "json", body)


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch) -> Generator[KeptTelemetry]:
    monkeypatch.setattr(kept, "GATHER_S", 0.01)
    monkeypatch.setattr(kept, "RETRY_S", 0.01)
    made = KeptTelemetry(tmp_path / "state" / FILE, RULES, report=reports.append, now=lambda: 5_000.0)
    made.start()
    yield made
    made.close()


def test_what_was_added_is_read_again(store: KeptTelemetry, tmp_path: Path) -> None:
    path = tmp_path / "state" / FILE
    assert store.add(item(body=b"{1}"))
    assert store.add(item(OTHER, body=b"{2}", signal="traces"))
    assert store.close()
    assert [each.body for each in read_kept(path, KeptFilter())] == [b"{1}", b"{2}"]
    (mine,) = read_kept(path, KeptFilter(agent="coder", run="run-1", signal="logs", since=4_999.0))
    assert (mine.sender, mine.at, mine.encoding) == (CODER, 5_000.0, "json")
    assert list(read_kept(path, KeptFilter(since=5_001.0))) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.counts() == {"kept": 2, "lost": 0}


def test_each_owner_has_a_share_of_what_waits(store: KeptTelemetry) -> None:
    store._thread.join(0)
    big = item(body=os.urandom(kept.QUEUED_SHARE // 2 + 1))
    results = [store.add(big) for _ in range(2)]
    assert results[0]
    if not results[1]:  # unless the first was written meanwhile
        assert store.add(item(OTHER))
        assert store.counts()["lost"] == 1


def test_a_file_that_cannot_be_written_is_reported_once_and_tried_again(
    store: KeptTelemetry, tmp_path: Path, reports: list[str]
) -> None:
    (tmp_path / "state").write_text("no folder")
    store.add(item())
    until(lambda: len(reports) == 1)
    assert "cannot be written" in reports[0]
    (tmp_path / "state").unlink()
    until(lambda: store.counts()["kept"] == 1)
    until(lambda: reports[1:] == [""])


def test_the_oldest_of_whoever_has_the_most_are_deleted(tmp_path: Path) -> None:
    """So a flood pushes out nobody's but its own."""
    path = tmp_path / FILE
    with closing(open_for_writing(path)) as database:
        add = [kept._row(item(body=os.urandom(1_000))) for _ in range(50)]
        add += [kept._row(item(OTHER, body=os.urandom(1_000))) for _ in range(3)]
        add += [kept._row(item(OTHER, at=10.0))]
        with database:
            database.executemany(kept._INSERT, add)
        retain(database, KeptRules(max_age=1_000.0, max_size=20_000), now=5_000.0)
    left = list(read_kept(path, KeptFilter()))
    assert sum(each.sender == OTHER for each in left) == 3  # the old one is gone
    assert 10 <= sum(each.sender == CODER for each in left) <= 17
    assert [each.sender for each in left] == [CODER] * (len(left) - 3) + [OTHER] * 3  # the newest stayed


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(KeptUnavailable, match="cannot be read"):
        list(read_kept(tmp_path / FILE, KeptFilter()))
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(KeptUnavailable):
        list(read_kept(tmp_path / FILE, KeptFilter()))
    with pytest.raises(KeptUnavailable):
        open_for_writing(tmp_path / FILE)
    assert sqlite3.sqlite_version
