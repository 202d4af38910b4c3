import io
import logging
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.events import Usage
from modelplex.core.request import Change, StrippedValue
from modelplex.records import log as log_module
from modelplex.records import log_fields, log_text
from modelplex.records.log import Log, Secrets
from modelplex.records.record import AttemptRecord, Record, Times

WAIT_S = 20.0
KEY = "sk-live-0123456789abcdef"


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "id": "req_1",
        "started": 1_000_000_000.0,
        "listener": "unix:/run/m.sock",
        "client": "uid 1000",
        "endpoint": "chat/completions",
        "dialect": "openai_chat",
        "requested_model": "gpt",
        "model": "gpt-4o",
        "provider": "openai",
        "stream": True,
        "status": 200,
        "finish_reason": "stop",
        "usage": Usage(fresh=70, cache_read=20, cache_write=10, output=9, reasoning=4),
        "cost": 0.000123,
        "times": Times(overhead=0.0004, first_output=0.3, total=2.0),
        "attempts": (AttemptRecord("openai", "gpt-4o", 0, "ok", 200, 2.0, upstream_request_id="up_1"),),
        "bytes_in": 1000,
        "bytes_out": 300,
    }
    return Record(**(fields | changes))


FAILED: dict[str, Any] = {
    "outcome": "error",
    "blame": "provider",
    "code": "overloaded",
    "error": "It is busy.",
    "status": 503,
    "usage": None,
    "cost": None,
    "finish_reason": None,
}


def plain(text: bytes) -> bytes:
    return text


def told(
    told_record: Record, *, max_body: int = 100, mask: Callable[[bytes], bytes] = plain
) -> dict[str, Any]:
    return msgspec.json.decode(
        log_fields.json_call(told_record, max_body=max_body, mask=mask), type=dict[str, Any]
    )


def shown(shown_record: Record, *, colour: bool = False) -> str:
    return log_text.call_line(shown_record, colour=colour, max_body=100, mask=plain).decode()


def lines(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(text) for text in path.read_bytes().splitlines()]


def until(true: Callable[[], bool]) -> None:
    """Looks again and again, for at most WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def pause(sink_of: Log) -> Callable[[], None]:
    """Holds the writer before its next write; the returned function lets it go on."""
    go = threading.Event()
    reached = threading.Event()
    write = sink_of._output.write  # pyright: ignore[reportPrivateUsage]

    def wait(batch: list[bytes]) -> None:
        reached.set()
        assert go.wait(WAIT_S)
        write(batch)

    sink_of._output.write = wait  # type: ignore[method-assign,assignment]  # pyright: ignore[reportPrivateUsage]
    sink_of.record(record(id="held"))
    assert reached.wait(WAIT_S)
    return go.set


# --- what a line says -----------------------------------------------------------------------------


def test_a_call_that_went_well_is_one_line_with_documented_keys() -> None:
    assert told(record()) == {
        "time": "2001-09-09T01:46:42.000Z",
        "level": "info",
        "event": "call",
        "request_id": "req_1",
        "listener": "unix:/run/m.sock",
        "client": "uid 1000",
        "endpoint": "chat/completions",
        "dialect": "openai_chat",
        "stream": True,
        "passthrough": False,
        "model_asked": "gpt",
        "model": "gpt-4o",
        "provider": "openai",
        "status": 200,
        "outcome": "ok",
        "finish_reason": "stop",
        "tokens": {"in": 100, "out": 9, "cached": 20, "cache_write": 10, "reasoning": 4, "estimated": False},
        "cost_usd": 0.000123,
        "ms": {"queue": 0.0, "ours": 0.4, "first_byte": 300.0, "total": 2000.0},
        "upstream_request_id": "up_1",
        "bytes": {"in": 1000, "out": 300},
    }


def test_what_went_wrong_is_told_with_every_attempt_loss_and_refusal() -> None:
    tries = (
        AttemptRecord("a", "m", 1, "rate_limit_exceeded", 429, 0.25, "Slow down.", "up_2"),
        AttemptRecord("b", "n", 0, "upstream_timeout"),
    )
    line_told = told(
        record(
            **FAILED,
            attempts=tries,
            changes=(Change("drop", "tools[0].strict", "no such word"),),
            stripped=(StrippedValue("/messages/0", "no-images"),),
        )
    )
    assert line_told["level"] == "error"
    assert (line_told["blame"], line_told["code"], line_told["error"]) == (
        "provider",
        "overloaded",
        "It is busy.",
    )
    assert line_told["attempts"] == [
        {
            "provider": "a", "model": "m", "key": 1, "outcome": "rate_limit_exceeded", "ms": 250.0,
            "status": 429, "error": "Slow down.", "upstream_request_id": "up_2",
        },
        {"provider": "b", "model": "n", "key": 0, "outcome": "upstream_timeout", "ms": 0.0},
    ]  # fmt: skip
    assert line_told["changes"] == [{"op": "drop", "path": "tools[0].strict", "reason": "no such word"}]
    assert line_told["stripped"] == [{"pointer": "/messages/0", "rule": "no-images"}]
    assert {"tokens", "cost_usd", "finish_reason"}.isdisjoint(line_told)


def test_every_key_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/log.md").read_text()
    whole = record(
        **FAILED,
        attempts=(
            AttemptRecord("a", "m", 1, "x", 429, 0.25, "Slow.", "up"),
            AttemptRecord("b", "n", 0, "y", upstream_request_id="up"),
        ),
        changes=(Change("drop", "p", "r"),),
        stripped=(StrippedValue("/p", "r"),),
        request_body=b"x" * 200,
        response_body=b"y" * 200,
    )
    keys = set(told(whole)) | set(told(record()))
    for part in ("tokens", "ms", "bytes"):
        keys |= set(told(record())[part])
    keys |= set(told(whole)["attempts"][0])
    assert {key for key in keys if f"`{key}`" not in page} == set()


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "info"),
        ({"outcome": "client_closed", "blame": "client"}, "info"),
        ({"outcome": "error", "blame": "client"}, "warning"),
        ({"outcome": "error", "blame": "policy"}, "warning"),
        ({"outcome": "error", "blame": "provider"}, "error"),
        ({"outcome": "broken", "blame": "gateway"}, "error"),
    ],
)
def test_a_lines_level_is_by_whose_fault_it_was(changes: dict[str, Any], level: str) -> None:
    assert told(record(**changes))["level"] == level


def test_a_body_is_cut_and_the_line_says_by_how_much() -> None:
    line_told = told(record(request_body=b"a" * 130, response_body=b"short"), max_body=100)
    assert line_told["request_body"] == "a" * 100
    assert line_told["request_body_cut"] == 30
    assert line_told["response_body"] == "short"
    assert "response_body_cut" not in line_told
    assert "request_body" not in told(record())


def test_an_endless_error_sentence_is_cut() -> None:
    line_told = told(record(**(FAILED | {"error": "x" * 100_000})))
    assert len(line_told["error"]) < 2100
    assert line_told["error"].endswith("(98000 characters more)")


def test_a_person_reads_one_line() -> None:
    assert shown(record()).split(maxsplit=1)[1] == (
        "200  gpt → openai/gpt-4o  100+9 tokens (20 cached, 4 reasoning)  $0.000123"
        "  2.00s (first 300ms, ours 0.4ms)  req_1\n"
    )
    tries = (AttemptRecord("a", "m", 0, "overloaded"), AttemptRecord("b", "m", 0, "overloaded"))
    failed = shown(record(**FAILED, attempts=tries, times=Times(total=0.05), model="gpt"))
    assert (
        failed.split(maxsplit=1)[1]
        == "503  gpt → openai  50ms (ours 0.0ms)  2 attempts  req_1  It is busy.\n"
    )
    assert "\x1b[31m503\x1b[0m" in shown(record(**FAILED), colour=True)
    assert "client disconnected" in shown(record(outcome="client_closed", blame="client", error="gone"))
    assert "broke off" in shown(record(**(FAILED | {"outcome": "broken"})))


def test_bodies_follow_a_persons_line_indented() -> None:
    text = shown(record(request_body=b'{"a":\n1}', response_body=b"z" * 120))
    head, request, response = text.splitlines()
    assert "req_1" in head
    assert request == '    request  {"a":\\n1}'
    assert response == f"    response {'z' * 100} … 20 bytes more"


@given(st.text(), st.text(), st.binary())
def test_whatever_a_client_sends_it_stays_on_its_line(asked: str, error: str, body: bytes) -> None:
    wild = record(**(FAILED | {"error": error}), requested_model=asked, request_body=body)
    assert log_fields.json_call(wild, max_body=50, mask=plain).count(b"\n") == 1
    text = log_text.call_line(wild, colour=False, max_body=50, mask=plain).decode()
    assert text.count("\n") == 2
    assert not any(ord(mark) < 32 or 127 <= ord(mark) < 160 for mark in text if mark != "\n")


def test_lone_surrogates_do_not_lose_the_line() -> None:
    assert "req_1" in log_fields.json_call(record(requested_model="a\ud800"), max_body=0, mask=plain).decode()
    assert "a\\ud800" in shown(record(requested_model="a\ud800"))


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, 'quo"te\\back\nslash', "grüße-über-alles", "a+b/c=d&e f-long"])
def test_a_secret_is_hidden_however_it_is_written(key: str) -> None:
    hide = Secrets([key]).mask
    failed = record(
        **(FAILED | {"error": f"Incorrect API key provided: {key}."}), request_body=f"key={key}".encode()
    )
    text = hide(log_fields.json_call(failed, max_body=1000, mask=hide)).decode()
    assert msgspec.json.encode(key).decode()[1:-1] not in text
    assert text.count("********") == 2
    assert key not in repr(Secrets([key]))


def test_a_secret_that_a_cut_goes_through_is_hidden_before_the_cut() -> None:
    hide = Secrets([KEY]).mask
    body = b"x" * 90 + KEY.encode() + b"y" * 500
    assert "sk-live" not in told(record(request_body=body), max_body=100, mask=hide)["request_body"]
    sentence = "x" * (log_fields.SENTENCE_LIMIT - 10) + KEY
    assert "sk-live" not in told(record(**(FAILED | {"error": sentence})), mask=hide)["error"]


def test_words_that_are_no_keys_are_left_alone() -> None:
    assert Secrets(["none", "", "ollama"]).mask(b"none ollama") == b"none ollama"


def test_secrets_can_be_set_anew(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log")
    log.secrets = Secrets([KEY])
    log.events.warning("key rejected", said=f"bad {KEY}", secret=KEY)
    log.record(record(requested_model=KEY))
    assert log.close()
    text = (tmp_path / "log").read_text()
    assert KEY not in text
    assert text.count("********") == 3


# --- the gateway's own events ---------------------------------------------------------------------


def test_an_event_has_its_fields_and_calls_and_events_keep_their_order(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log")
    log.events.info("started", http=("127.0.0.1:11435",), config=Path("/c.toml"))
    log.record(record())
    log.events.error("breaker opened", provider="openai", key=0)
    assert log.close()
    first, second, third = lines(tmp_path / "log")
    assert list(first) == ["time", "level", "event", "http", "config"]
    assert (first["level"], first["event"]) == ("info", "started")
    assert (first["http"], first["config"]) == (["127.0.0.1:11435"], "/c.toml")
    assert second["request_id"] == "req_1"
    assert (third["level"], third["provider"]) == ("error", "openai")


def test_lines_below_the_level_are_left_out_and_the_level_can_change(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log", level="error")
    log.events.warning("no")
    log.record(record())
    log.record(record(**FAILED))
    log.events.error("yes")
    assert log.close()
    assert [entry["event"] for entry in lines(tmp_path / "log")] == ["call", "yes"]
    log = Log(file=tmp_path / "log2")
    log.events.debug("no")
    log.level = "debug"
    log.events.debug("yes")
    assert log.close()
    assert [entry["event"] for entry in lines(tmp_path / "log2")] == ["yes"]


def test_an_exception_comes_with_its_traceback(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log")
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        log.events.error("fault", request_id="req_9", exc_info=error)
    assert log.close()
    (entry,) = lines(tmp_path / "log")
    assert "test_log.py" in entry["exception"]
    assert entry["exception"].endswith("RuntimeError: boom")


def test_what_libraries_log_comes_out_in_the_same_form(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log")
    logger = logging.Logger("uvicorn.error")  # noqa: LOG001 - one that nobody else sees
    logger.addHandler(log.handler())
    logger.debug("no")
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("it %s", "failed")
    assert log.close()
    (entry,) = lines(tmp_path / "log")
    assert (entry["level"], entry["event"], entry["logger"]) == ("error", "it failed", "uvicorn.error")
    assert "ValueError: bad" in entry["exception"]


def test_a_line_that_cannot_be_rendered_does_not_end_the_log(tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    log = Log(file=tmp_path / "log")
    log.events.info("odd", value=Odd())
    log.events.info("next")
    assert log.close()
    first, second = lines(tmp_path / "log")
    assert "could not be written" in first["event"]
    assert second["event"] == "next"


def test_a_stream_that_is_no_terminal_gets_json_and_a_terminal_coloured_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    log = Log(stream=stream)
    log.record(record())
    assert log.close()
    assert msgspec.json.decode(stream.getvalue())["event"] == "call"
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb", buffering=0) as screen:
        log = Log(stream=terminal)
        log.events.warning("breaker opened", provider="openai")
        assert log.close()
        text = screen.read(4096).decode()
    assert "\x1b[33mwarning\x1b[0m  breaker opened  \x1b[2mprovider=\x1b[0mopenai" in text


# --- nothing blocks, nothing fails ----------------------------------------------------------------


def test_a_full_queue_drops_lines_and_says_how_many_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "QUEUE_LIMIT", 5)
    log = Log(file=tmp_path / "log")
    go_on = pause(log)
    for number in range(12):
        log.record(record(id=f"req_{number}"))
    log.events.info("dropped too")
    assert log.dropped == 8
    assert log.lost() == {"full": 8, "unwritten": 0}
    assert "5 waiting, 8 dropped" in repr(log)
    go_on()
    assert log.close()
    held, lost, *rest = lines(tmp_path / "log")
    assert held["request_id"] == "held"
    assert (lost["event"], lost["lines"]) == ("log lines were lost", 8)
    assert lost["since_start"] == {"full": 8, "unwritten": 0}
    assert [entry["request_id"] for entry in rest] == [f"req_{number}" for number in range(5)]


def test_bodies_that_wait_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "QUEUED_BODIES_LIMIT", 1000)
    log = Log(file=tmp_path / "log")
    go_on = pause(log)
    for _ in range(3):
        log.record(record(request_body=b"x" * 300, response_body=b"y" * 150))
    log.record(record())
    assert log.dropped == 1
    go_on()
    assert log.close()
    log = Log(file=tmp_path / "log2")
    for _ in range(3):
        log.record(record(request_body=b"x" * 450))
    assert log.close()


def test_a_pipe_that_nobody_reads_neither_blocks_the_caller_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_module, "CLOSE_LIMIT_S", 0.2)
    monkeypatch.setattr(log_module, "QUEUE_LIMIT", 50)
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stream, os.fdopen(read, "rb") as reader:
        log = Log(stream=stream)
        for _ in range(2000):
            log.record(record(request_body=b"x" * 2000))
        assert not log.close()
        assert "closing" in repr(log)
        while not log.close():
            reader.read1(1 << 20)


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


def test_what_is_told_after_the_end_is_not_an_error(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log")
    assert log.close()
    log.record(record())
    log.events.info("late")
    assert log.close()
    assert (tmp_path / "log").read_bytes() == b""


# --- files ----------------------------------------------------------------------------------------


def write_lines(log: Log, count: int) -> None:
    """Each as a batch of its own, as a gateway with little to do writes them."""
    for number in range(count):
        log._output.write([b"%03d %s\n" % (number, b"x" * 95)])  # pyright: ignore[reportPrivateUsage]


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


@pytest.fixture(autouse=True)
def no_writer_stays() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "log":
            thread.join(WAIT_S)
            assert not thread.is_alive()
