"""The fields of a log line, and that no line repeats the name of a provider or tool server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.config import load
from modelplex.core.errors import without_name
from modelplex.core.request import Change, StrippedValue
from modelplex.http_client import SendError
from modelplex.pipeline.upstream import map_send_error
from modelplex.records import log_fields, log_text
from modelplex.records.record import AttemptRecord
from modelplex.server.reach import check_reach
from tests.gateways import one
from tests.processes import served
from tests.records.lines import (
    FAILED,
    json_line,
    plain,
    record,
    text_line,
)
from tests.records.test_tool_call import call
from tests.upstreams import answer, provider

REFUSED = map_send_error("far", SendError("127.0.0.1:1 refused the connection.")).message
DOUBLED = re.compile(r"(?<![\w./-])([\w-]{2,})(?:/[\w.-]+)?:\s+(?:The tool server )?\1\b")
"""A name, perhaps with a model, and behind the colon the same name once more."""


@pytest.mark.parametrize(
    ("sentence", "name", "rest"),
    [
        ("far: It refused.", "far", "It refused."),
        ("The tool server far could not be started.", "far", "could not be started."),
        ("farther: It refused.", "far", "farther: It refused."),
        ("It refused.", "far", "It refused."),
        (": odd", "", ": odd"),
    ],
)
def test_a_name_before_a_sentence_is_left_out(sentence: str, name: str, rest: str) -> None:
    assert without_name(sentence, name) == rest


def test_a_call_s_line_names_its_provider_once() -> None:
    failed = record(
        **FAILED | {"error": REFUSED},
        provider="far",
        model="gpt",
        attempts=(AttemptRecord("far", "gpt", 0, "upstream_error", None, 0.1, REFUSED),),
    )
    assert REFUSED == "far: 127.0.0.1:1 refused the connection."
    assert text_line(failed).count("far") == 1
    fields = json_line(failed)
    assert fields["error"] == fields["attempts"][0]["error"] == "127.0.0.1:1 refused the connection."


def test_a_tool_call_s_line_names_its_server_once() -> None:
    failed = call(outcome="error", error="The tool server git could not be started. It is gone.")
    text = log_text.call_line(failed, colour=False, max_body=0, mask=plain).decode()
    assert text.rstrip().endswith("could not be started. It is gone.")
    assert "The tool server" not in text
    fields = msgspec.json.decode(log_fields.json_call(failed, max_body=0, mask=plain))
    assert fields["error"] == "could not be started. It is gone."


async def test_no_line_of_a_gateway_whose_providers_fail_says_a_name_twice(tmp_path: Path) -> None:
    dead = "http://127.0.0.1:1"
    config = (
        '[log]\nformat = "human"\n[failover]\nretries = 0\n'
        + one(dead, name="alpha", models='["m", "both"]')
        + one(dead, name="beta", models='["both"]')
        + f'[[providers]]\nname = "lists"\ntype = "openai"\nbase_url = "{dead}"\n'
        + '[mcp]\nenabled = true\n[[mcp.servers]]\nname = "tools"\ncommand = "no-such-program"\nstart = "eager"\n'
    )
    async with served(config, folder=tmp_path) as gateway:
        for model in ("m", "both", "lists/x"):
            await gateway.chat(model)
    said = gateway.said.read_text()
    rows = said.splitlines()
    assert sum("refused the connection" in row for row in rows) >= 3
    assert [row for row in rows if DOUBLED.search(row)] == []
    (alone,) = (row for row in rows if " m → " in row)
    assert alone.count("alpha") == 1
    listing = next(row for row in rows if "did not list" in row)
    assert listing.count("lists") == 1
    assert any("server=tools" in row for row in rows)
    assert [row for row in rows if "The tool server tools" in row] == []


async def test_who_answers_with_an_error_is_not_said_to_give_no_answer(tmp_path: Path) -> None:
    async with provider(answer({"error": {"message": "Who are you?"}}, status=401)) as up:
        path = tmp_path / "config.toml"
        path.write_text(one(up.url, name="keyless") + one("http://127.0.0.1:1", name="dead"))
        results = await check_reach(load(str(path), environ={}))
    assert {result.provider: result.answered for result in results} == {"keyless": True, "dead": False}
    assert not any(result.ok for result in results)
    assert not any(result.sentence.startswith(result.provider) for result in results)


def test_a_call_that_went_well_is_one_line_with_documented_keys() -> None:
    assert json_line(record()) == {
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
    line_told = json_line(
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
    keys = set(json_line(whole)) | set(json_line(record()))
    for part in ("tokens", "ms", "bytes"):
        keys |= set(json_line(record())[part])
    keys |= set(json_line(whole)["attempts"][0])
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
    assert json_line(record(**changes))["level"] == level


def test_a_body_is_cut_and_the_line_says_by_how_much() -> None:
    line_told = json_line(record(request_body=b"a" * 130, response_body=b"short"), max_body=100)
    assert line_told["request_body"] == "a" * 100
    assert line_told["request_body_cut"] == 30
    assert line_told["response_body"] == "short"
    assert "response_body_cut" not in line_told
    assert "request_body" not in json_line(record())


def test_an_endless_error_sentence_is_cut() -> None:
    line_told = json_line(record(**(FAILED | {"error": "x" * 100_000})))
    assert len(line_told["error"]) < 2100
    assert line_told["error"].endswith("(98000 characters more)")


def test_lone_surrogates_do_not_lose_the_line() -> None:
    assert "req_1" in log_fields.json_call(record(requested_model="a\ud800"), max_body=0, mask=plain).decode()
    assert "a\\ud800" in text_line(record(requested_model="a\ud800"))
