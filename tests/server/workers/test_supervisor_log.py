"""The supervisor's log lines: they never make it wait."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.records.log_lock import OutputLock
from modelplex.server.workers.supervisor_log import MAX_LINE, SupervisorLog


def read(text: str = "") -> Config:
    return parse(text.encode(), file="config.toml", environ={}, types=provider_types())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_of_the_level_are_written_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = f'[server]\ninternal_token = "very-secret-token"\n[log]\nfile = "{path}"\n'
    log = SupervisorLog(read(text), verbose=False, lock=OutputLock())
    log.debug("hidden")
    log.info("started", workers=[1, 2])
    log.warning("w")
    log.error("e", reason="it has very-secret-token in it")
    assert [(row["level"], row["event"]) for row in lines(path)] == [
        ("info", "started"),
        ("warning", "w"),
        ("error", "e"),
    ]
    assert lines(path)[0]["workers"] == [1, 2]
    assert "very-secret" not in path.read_text()
    log.configure(read('[server]\nlog_level = "error"\n'))
    log.warning("hidden")
    assert len(lines(path)) == 3


def test_verbose_shows_all_and_people_get_text(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = f'[log]\nfile = "{path}"\nformat = "human"\n'
    SupervisorLog(read(text), verbose=True, lock=OutputLock()).debug("shown", n=1)
    assert path.read_text().split()[2:] == ["debug", "shown", "n=1"]


def test_lines_are_lost_and_counted_where_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = SupervisorLog(read(), verbose=False, lock=OutputLock())
        log.info("long", text="x" * 2 * MAX_LINE)
        assert len(os.read(reading, 10 * MAX_LINE)) == MAX_LINE
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 65536)
        os.set_blocking(writing, True)

        def lose() -> None:
            for _ in range(3):
                log.info("lost")

        done = threading.Thread(target=lose)
        done.start()
        done.join(10)
        assert not done.is_alive()
        os.read(reading, 1 << 20)
        log.info("written")
        assert json.loads(os.read(reading, 4096))["lines_lost"] == 3
        log.info("again")
        assert "lines_lost" not in json.loads(os.read(reading, 4096))
    os.close(reading)
