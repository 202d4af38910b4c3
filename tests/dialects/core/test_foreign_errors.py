"""What is passed on of a foreign error: no page, and no address."""

import json
import time

import pytest

from modelplex.dialects.core.foreign_errors import (
    ADDRESS_MARK,
    PAGE_MARK,
    error_without_addresses,
    error_without_page,
    is_page,
    quotable_text,
    without_addresses,
    without_page,
)

HIDDEN = [
    "Cannot connect to host 10.0.0.5:8000 ssl:default [Connect call failed ('10.0.0.5', 8000)]",
    "dial tcp 127.0.0.1:11434: connect: connection refused",
    "[Errno 111] Connect call failed ('::1', 11434, 0, 0), Connect call failed ('127.0.0.1', 11434)",
    'Post "http://[::1]:8000/v1/chat": EOF',
    "http://vllm-0:8000/v1/chat/completions timed out",
    "https://10.0.0.5/v1 said no",
    "http://gpu-box/v1 said no",
    "https://llm.corp.internal/v1 said no",
    "no healthy upstream at vllm-0:8000, localhost:8001, gpu.example.com:8443",
    "foo.svc.cluster.local is down",
    "unix:///run/model.sock is gone",
    "2001:db8::17 is gone, and fe80::1",
]
MARKS = ["10.0.0.5", "127.0.0.1", "::1", "8000", "11434", "vllm-0", "gpu", "internal", "cluster", "run/model", "2001", "8443"]  # fmt: skip
KEPT = [
    "Limit 10000, Used 9000. Visit https://platform.openai.com/account/rate-limits to learn more.",
    "See https://docs.example.com/errors.",
    "The models qwen3:30b, llama3.1:70b and gpt-oss:20b are not there.",
    "messages[0].content[1:20] is too long: 20000 tokens of 10000.",
    "It failed at 12:30:45 in std::vec::Vec, version 1.2.3.",
    "A local error, internal to the model.",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_an_address_is_told_in_no_form(text: str) -> None:
    told = without_addresses(text)
    assert not [mark for mark in MARKS if mark in told], told
    assert ADDRESS_MARK in told
    body = json.dumps({"error": {"message": text, "code": 500}}).encode()
    assert not [
        mark for mark in MARKS if mark in json.loads(error_without_addresses(body))["error"]["message"]
    ]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_address_stays(text: str) -> None:
    assert without_addresses(text) == text
    body = json.dumps({"error": {"message": text}}).encode()
    assert error_without_page(error_without_addresses(body)) == body


PAGE = '<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>"nginx"</html>'


@pytest.mark.parametrize("page", [PAGE, "<HTML>", "<?xml version='1.0'?><html/>", "<h1>Not Found</h1>"])
def test_a_page_is_known_and_not_quoted(page: str) -> None:
    assert is_page(page)
    assert quotable_text(400, page.encode()) == quotable_text(502, page.encode()) == PAGE_MARK
    assert without_page(f"APIError: {page}") == f"APIError: {PAGE_MARK}"


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_page_within_a_sentence_is_cut_and_the_json_stays_whole(ascii_only: bool) -> None:
    body = json.dumps(
        {"error": {"message": f"APIError: {PAGE}", "type": "x"}, "n": 1}, ensure_ascii=ascii_only
    )
    for written in (body, body.replace("<", "\\u003c")):
        assert json.loads(error_without_page(written.encode())) == {
            "error": {"message": f"APIError: {PAGE_MARK}", "type": "x"},
            "n": 1,
        }


def test_a_line_beside_a_clients_fault_is_quoted_and_one_of_a_broken_server_is_not() -> None:
    assert quotable_text(422, b"missing field `model`") == "missing field `model`"
    assert quotable_text(400, b"") == ""
    assert quotable_text(503, b"upstream connect error, 10.0.0.5 refused") == PAGE_MARK
    assert quotable_text(400, b"x" * 501) == quotable_text(400, b"\x00\x01") == PAGE_MARK


@pytest.mark.parametrize("unit", ["a.", "a:", ":", "1.", "<html ", "a-", "http://", "\\", "[", "::1.", "'"])
def test_no_text_takes_long_to_look_through(unit: str) -> None:
    """The longest error that is read, 64 KiB, at well under what a caller would notice; a
    backtracking search would take minutes.
    """
    text = unit * (65_536 // len(unit))
    started = time.process_time()
    without_addresses(text)
    without_page(text)
    error_without_addresses(text.encode())
    error_without_page(text.encode())
    assert time.process_time() - started < 2.0
