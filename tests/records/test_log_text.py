"""Log lines for people."""

from hypothesis import given
from hypothesis import strategies as st

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
