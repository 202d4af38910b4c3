"""The log: masking of secrets, events, the bounded queue, shutdown."""

import io
import logging
import os
import pty
from pathlib import Path

import msgspec
import pytest

from modelplex.records import log as log_module
from modelplex.records import log_fields
from modelplex.records.log import Log, LogFormat, Secrets
from tests.records.lines import (
    FAILED,
    KEY,
    json_line,
    lines,
    pause,
    record,
)

pytestmark = pytest.mark.usefixtures("no_writer_stays")

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
    assert "sk-live" not in json_line(record(request_body=body), max_body=100, mask=hide)["request_body"]
    sentence = "x" * (log_fields.SENTENCE_LIMIT - 10) + KEY
    assert "sk-live" not in json_line(record(**(FAILED | {"error": sentence})), mask=hide)["error"]


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


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_bodies_that_are_kept_for_the_record_are_not_logged(tmp_path: Path, log_format: LogFormat) -> None:
    log = Log(file=tmp_path / "log", log_format=log_format)
    log.bodies = False
    log.record(record(request_body=b"a question", response_body=b"an answer"))
    assert log.close()
    text = (tmp_path / "log").read_text()
    assert "gpt-4o" in text
    assert "question" not in text
    assert "an answer" not in text


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


def test_what_is_told_after_the_end_is_not_an_error(tmp_path: Path) -> None:
    log = Log(file=tmp_path / "log")
    assert log.close()
    log.record(record())
    log.events.info("late")
    assert log.close()
    assert (tmp_path / "log").read_bytes() == b""
