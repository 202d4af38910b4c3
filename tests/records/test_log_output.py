"""Outputs of the log: full disks, broken pipes, rotation."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.records.log import Log
from tests.records.lines import WAIT_S, lines, record, until, write_lines

pytestmark = pytest.mark.usefixtures("no_writer_stays")


def test_a_full_disk_is_told_once_counted_and_outlived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    wrote = threading.Event()
    real = os.write

    def write(fd: int, data: Any) -> int:
        if full.is_set():
            wrote.set()
            raise OSError(28, "No space left on device")
        return real(fd, data)

    log = Log(file=tmp_path / "log")
    monkeypatch.setattr(os, "write", write)
    for _ in range(3):
        wrote.clear()
        log.record(record())
        assert wrote.wait(WAIT_S)
    until(lambda: log.lost()["unwritten"] == 3)
    full.clear()
    log.record(record(id="after"))
    assert log.close()
    lost, after = lines(tmp_path / "log")
    assert (lost["event"], lost["lines"]) == ("log lines were lost", 3)
    assert after["request_id"] == "after"
    assert log.lost() == {"full": 0, "unwritten": 3}
    assert capsys.readouterr().err == (
        f"modelplex: the log file {tmp_path / 'log'} cannot be written (No space left on device); "
        "lines are lost, calls continue\n"
    )


def test_a_line_that_the_end_of_the_disk_cut_is_ended_before_the_next(tmp_path: Path) -> None:
    """A real limit on the file's size, as a full disk: the kernel writes a part and then
    refuses.
    """
    script = f"""
import resource, signal, sys, time
sys.path[:0] = {sys.path!r}
from modelplex.records.log import Log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = Log(file={str(tmp_path / "log")!r}, max_size=0)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
for _ in range(4):
    log.events.info("x" * 40)
while not log.lost()["unwritten"]:
    time.sleep(0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log.events.info("after")
assert log.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=WAIT_S, capture_output=True)
    whole, torn = 0, 0
    for text in (tmp_path / "log").read_bytes().splitlines():
        try:
            msgspec.json.decode(text)
            whole += 1
        except msgspec.DecodeError:
            torn += 1
    assert (whole, torn) == (4, 1)
    *_, lost, after = (tmp_path / "log").read_bytes().splitlines()
    assert msgspec.json.decode(lost)["lines"] == 2
    assert msgspec.json.decode(after)["event"] == "after"


def test_a_broken_pipe_is_counted_and_raises_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as stream:
        log = Log(stream=stream)
        log.record(record())
        assert log.close()
    assert log.lost() == {"full": 0, "unwritten": 1}


def test_a_pipe_that_is_set_not_to_block_is_waited_for() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    seen = bytearray()
    with os.fdopen(write, "wb", buffering=0) as stream, os.fdopen(read, "rb", buffering=0) as reader:
        log = Log(stream=stream, max_body=100_000)
        for _ in range(20):
            log.record(record(request_body=b"x" * 20_000))
        while seen.count(b"\n") < 20:
            seen += reader.read(1 << 16)
        assert log.close()
    assert log.lost() == {"full": 0, "unwritten": 0}


def test_a_file_rotates_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(file=path, max_size=250, keep=2)
    write_lines(log, 9)
    assert log.close()
    kept = {file.name: [text[:3] for text in file.read_text().splitlines()] for file in tmp_path.iterdir()}
    assert kept == {"log": ["008"], "log.1": ["006", "007"], "log.2": ["004", "005"]}
    assert path.stat().st_mode & 0o777 == 0o600


def test_keep_nothing_empties_the_file(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log", max_size=250, keep=0)
    write_lines(log, 5)
    assert log.close()
    assert [file.name for file in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_text().startswith("004")


def test_a_rotation_that_fails_is_told_and_the_file_grows_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    log = Log(file=tmp_path / "log", max_size=250, keep=2)
    monkeypatch.setattr(Path, "replace", refuse)
    write_lines(log, 6)
    assert log.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 6
    err = capsys.readouterr().err
    assert err.count("cannot be rotated (Permission denied); it keeps growing") == 1


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(file=path)
    write_lines(log, 1)
    path.rename(tmp_path / "moved")
    write_lines(log, 1)
    assert log.close()
    assert path.read_bytes() == (tmp_path / "moved").read_bytes() != b""


def test_a_file_that_cannot_be_opened_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Log(file=tmp_path / "no" / "log")
