"""The table of dialects, and how a request is written for a provider of any."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import Attempt, ChatRequest, HostedTool, Message, TextPart, Tool, ToolChoice
from modelplex.dialects.registry import (
    DIALECTS,
    provider_dialect,
    request_names,
    same_family,
    write_error,
    write_request,
)
from tests.dialects.sides import all_dialects

SEARCH = HostedTool("openai_chat", "web_search", msgspec.Raw(b'{"type":"web_search"}'), path="tools[1]")


def request(dialect: str = "openai_chat", **more: Any) -> ChatRequest:
    messages = (Message("user", (TextPart("Hi"),), path="messages[0]"),)
    return ChatRequest(dialect=dialect, model="m", messages=messages, **more)


def attempt(dialect: str) -> Attempt:
    return Attempt(provider="p", model="m", dialect=dialect)


def test_a_variant_is_of_its_family_and_nothing_is_of_no_family() -> None:
    assert same_family("gemini", "gemini_array")
    assert not same_family("gemini", "ollama")
    assert not same_family("", "")
    assert all(dialect.family.variant_of is None for dialect in all_dialects().values())


def test_a_dialect_whose_form_says_something_else_is_refused() -> None:
    chat = DIALECTS["openai_chat"]
    for form in (replace(chat.form, passes=False), replace(chat.form, counts=True)):
        with pytest.raises(ValueError, match="differ"):
            replace(chat, form=form)


def test_a_dialect_is_loaded_when_it_is_first_asked_for() -> None:
    """In an interpreter of its own, since other tests have loaded them all."""
    code = (
        "import sys; from modelplex.dialects.registry import DIALECTS, find, load\n"
        "def loaded(): return sorted({m.split('.')[2] for m in sys.modules if m.endswith('.response_in')})\n"
        "assert loaded() == [], loaded()\n"
        "assert find('') is None and find('nothing') is None\n"
        "load(['ollama_embed'])\n"
        "assert loaded() == ['ollama'] and 'ollama' in DIALECTS, loaded()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_dialect_that_no_provider_has_is_a_key_error() -> None:
    for dialect in ("openai_json_of_tomorrow", "nothing"):
        with pytest.raises(KeyError):
            provider_dialect(dialect)
    with pytest.raises(KeyError):
        write_request(request(), attempt("nothing"))


def test_the_id_of_a_request_is_in_the_headers_that_its_client_reads() -> None:
    assert request_names("openai_chat", "r1") == [(b"x-request-id", b"r1")]
    assert request_names("anthropic_messages", "r1")[1:] == [(b"request-id", b"r1")]


def test_an_error_is_written_in_the_clients_dialect() -> None:
    status, body = write_error("gemini", BadRequest("Wrong."), request_id="r1")
    assert (status, json.loads(body)["error"]["message"]) == (400, "Wrong.")


def test_a_hosted_tool_stays_in_its_dialect_and_leaves_it_with_a_report() -> None:
    call = request(tools=(Tool("f", path="tools[0]"), SEARCH))
    home = write_request(call, attempt("openai_chat"))
    assert json.loads(home.body)["tools"][1] == {"type": "web_search"}
    away = write_request(call, attempt("gemini"))
    assert [(change.op, change.path) for change in away.changes] == [("drop", "tools[1]")]


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("named", ("web_search",))])
def test_a_choice_that_only_a_hosted_tool_could_follow_is_refused(choice: ToolChoice) -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(
            request(tools=(SEARCH,), choice=choice, paths={"choice": "function_call"}), attempt("ollama")
        )
    assert caught.value.param == "function_call"


def test_a_choice_among_tools_loses_the_hosted_ones() -> None:
    tools = (Tool("f"), SEARCH)
    call = request(tools=tools, choice=ToolChoice("subset", ("f", "web_search")))
    config = json.loads(write_request(call, attempt("gemini")).body)["toolConfig"]
    assert config["functionCallingConfig"]["allowedFunctionNames"] == ["f"]
    none = request(tools=tools, choice=ToolChoice("subset", ("web_search",)))
    config = json.loads(write_request(none, attempt("gemini")).body)["toolConfig"]
    assert config["functionCallingConfig"] == {"mode": "NONE"}


def test_an_error_names_the_place_in_the_clients_body() -> None:
    schema = msgspec.Raw(b'{"type":"string"}')
    tool = Tool(
        "f", parameters=schema, path="tools[0].functionDeclarations[1]", members={"parameters": "parameters"}
    )
    with pytest.raises(Unsupported) as caught:
        write_request(request("gemini", tools=(tool,)), attempt("anthropic_messages"))
    assert caught.value.param == "tools[0].functionDeclarations[1].parameters"
