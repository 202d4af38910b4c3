"""A line says each thing once: the provider's name, the tool server's, and whether there was an
answer.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from modelplex.config import load
from modelplex.core.errors import without_name
from modelplex.http_client import SendError
from modelplex.pipeline.upstream import map_send_error
from modelplex.records import log_fields, log_text
from modelplex.records.record import AttemptRecord
from modelplex.server.reach import check_reach
from tests.gateways import one
from tests.processes import served
from tests.records.test_log import FAILED, plain, record, shown, told
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
    assert shown(failed).count("far") == 1
    fields = told(failed)
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
