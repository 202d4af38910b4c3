"""Log lines for people."""

import time

from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.request import StrippedValue
from modelplex.records import log_fields, log_text
from modelplex.records.record import AttemptRecord, Times
from tests.records.lines import FAILED, plain, record, text_line


def test_a_person_reads_one_line() -> None:
    assert text_line(record()).split(maxsplit=1)[1] == (
        "200  gpt → openai/gpt-4o  100+9 tokens (20 cached, 4 reasoning)  $0.000123"
        "  2.00s (first 300ms, ours 0.4ms)  req_1\n"
    )
    tries = (AttemptRecord("a", "m", 0, "overloaded"), AttemptRecord("b", "m", 0, "overloaded"))
    failed = text_line(record(**FAILED, attempts=tries, times=Times(total=0.05), model="gpt"))
    assert (
        failed.split(maxsplit=1)[1]
        == "503  gpt → openai  50ms (ours 0.0ms)  2 attempts  req_1  It is busy.\n"
    )
    assert "\x1b[31m503\x1b[0m" in text_line(record(**FAILED), colour=True)
    assert "client disconnected" in text_line(record(outcome="client_closed", blame="client", error="gone"))
    assert "broke off" in text_line(record(**(FAILED | {"outcome": "broken"})))


def test_bodies_follow_a_persons_line_indented() -> None:
    text = text_line(record(request_body=b'{"a":\n1}', response_body=b"z" * 120))
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


def event_text(**fields: object) -> str:
    return log_text.event_line({"event": "e", **fields}, at=0.5, colour=False).decode().split("  ", 2)[2]


def test_what_was_stripped_is_named() -> None:
    stripped = tuple(StrippedValue(f"/tools/{number}", "web-search") for number in range(9))
    text = text_line(record(stripped=stripped[:2]))
    assert "  stripped /tools/0 (web-search), /tools/1 (web-search)  req_1" in text
    assert "/tools/1 (web-search), /tools/2 (web-search), and 6 more" in text_line(record(stripped=stripped))


def test_an_event_has_no_form_of_python() -> None:
    text = event_text(names=["a", "b"], policy={"sockets": "sealed", "on": True}, none=None, empty=[], n=3)
    assert text == "e  names=a, b  policy=sockets sealed, on yes  n=3\n"


def test_a_long_list_is_counted() -> None:
    names = [f"agent-{number}" for number in range(500)]
    assert event_text(agents=names) == "e  agents=agent-0, agent-1, agent-2, and 497 more\n"
    summaries = [f"{name} (a token): models: all, tools: all" for name in names]
    (line,) = event_text(agents=summaries).splitlines()
    assert line.endswith("; agent-2 (a token): models: all, tools: all; and 497 more")


def test_the_first_line_of_each_day_has_the_date() -> None:
    days = log_text.DayMark()
    noon = time.mktime((2026, 12, 31, 12, 0, 0, 0, 0, -1))
    shown = [days.text(noon + hours * 3600) for hours in (0, 1, 24, 23, 25, 48)]
    assert shown == [b"2026-12-31 ", b"", b"2027-01-01 ", b"", b"", b"2027-01-02 "]
