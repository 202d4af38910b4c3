"""Contents of a Gemini request, and where their parts stand."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import Message, ReasoningPart, TextPart
from modelplex.dialects.gemini.messages_in import ContentReader, read_instructions
from tests.dialects.sides import stands

PICTURE = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def read(*contents: Any) -> list[Message]:
    return ContentReader().read(raw(contents))


def model(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": parts}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": parts}


def test_a_turn_in_pieces_is_one_message_whose_parts_stand_where_they_began() -> None:
    first, made, _ = read(
        user({"text": "Hi"}),
        model({"text": "h", "thought": True}, {"text": "m", "thought": True, "thoughtSignature": "s"}),
        model({"text": "So"}, {"text": "."}, {"functionCall": {"name": "f"}, "thoughtSignature": "t"}),
        user({"text": "Go"}),
    )
    assert stands(first.parts) == [("Text", "contents[0].parts[0]")]
    assert stands(made.parts) == [
        ("Reasoning", "contents[1].parts[0]"),
        ("Text", "contents[2].parts[0]"),
        ("ToolCall", "contents[2].parts[2]"),
    ]
    assert [part.text for part in made.parts if isinstance(part, TextPart | ReasoningPart)] == ["hm", "So."]
    call = made.parts[2].at
    assert [call.member(name) for name in ("state", "name", "arguments")] == [
        "contents[2].parts[2].thoughtSignature",
        "contents[2].parts[2].functionCall.name",
        "contents[2].parts[2].functionCall.args",
    ]


def test_a_signature_on_text_stands_at_its_member() -> None:
    (made,) = read(model({"text": "x", "thoughtSignature": "s"}, {"text": "", "thought_signature": "t"}))
    assert stands(made.parts) == [
        ("Text", "contents[0].parts[0]"),
        ("Reasoning", "contents[0].parts[0].thoughtSignature"),
        ("Reasoning", "contents[0].parts[1].thought_signature"),
    ]
    assert made.parts[1].at.member("state") == "contents[0].parts[0].thoughtSignature"


def test_a_result_and_what_is_in_it() -> None:
    result = {"name": "f", "response": {"error": "no"}, "parts": [PICTURE], "scheduling": "SILENT"}
    _, results, rest = read(
        model({"functionCall": {"name": "f"}}), user({"text": "x"}, {"functionResponse": result})
    )
    at = "contents[1].parts[1]"
    assert stands(results.parts) == [
        ("ToolResult", at),
        ("Text", f"{at}.functionResponse.response.error"),
        ("Image", f"{at}.functionResponse.parts[0]"),
    ]
    assert results.parts[0].at.member("is_error") == f"{at}.functionResponse.response.error"
    assert list(results.parts[0].extra) == ["functionResponse.scheduling"]
    assert stands(rest.parts) == [("Text", "contents[1].parts[0]")]


def test_places_are_spelt_as_the_client_spells_them() -> None:
    blob = {"mime_type": "text/plain", "data": "aGk=", "display_name": "n", "odd_one": 1}
    call = {"function_call": {"name": "f", "args": {"my_arg": 1}}, "thought_signature": "s"}
    result = {"function_response": {"name": "f", "response": {"output": "x"}}}
    first, made, results = read(user({"inline_data": blob, "odd_two": 2}), model(call), user(result))
    at = first.parts[0].at
    assert at.member("filename") == "contents[0].parts[0].inline_data.display_name"
    assert list(first.parts[0].extra) == ["odd_two", "inline_data.odd_one"]
    assert made.parts[0].at.member("name") == "contents[1].parts[0].function_call.name"
    assert made.parts[0].at.member("state") == "contents[1].parts[0].thought_signature"
    assert stands(results.parts)[1] == ("Text", "contents[2].parts[0].function_response.response.output")


def test_an_object_stands_for_a_list_of_one() -> None:
    (message,) = ContentReader().read(raw({"role": "user", "parts": {"text": "x"}}))
    assert (message.path, stands(message.parts)) == ("contents", [("Text", "contents.parts")])
    instructions = read_instructions(raw({"parts": [{"text": "a"}, {"text": ""}]}), path="system_instruction")
    assert instructions is not None
    assert stands(instructions.parts) == [("Text", "system_instruction.parts[0]")]
    assert read_instructions(raw({"parts": []}), path="systemInstruction") is None


def test_text_with_members_of_its_own_is_not_joined() -> None:
    (made,) = read(model({"text": "a"}, {"text": "b", "odd": 1}, {"text": "c"}))
    assert [part.text for part in made.parts if isinstance(part, TextPart)] == ["a", "bc"]
    assert [list(part.extra) for part in made.parts] == [[], ["odd"]]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"role": "robot", "parts": []}, "contents[0].role"),
        (user({"text": 7}), "contents[0].parts[0].text"),
        (user({"inlineData": {"mimeType": "a/b"}}), "contents[0].parts[0].inlineData"),
        (user({"functionCall": {"name": "f"}}), "contents[0].parts[0]"),
        (user({"functionResponse": {"name": "f"}}), "contents[0].parts[0].functionResponse"),
        (user({}), "contents[0].parts[0]"),
        (model({"functionCall": {"name": "f", "args": []}}), "contents[0].parts[0].functionCall.args"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(content: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(content)
    assert refused.value.param == param
