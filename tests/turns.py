"""A conversation's next turn: what a client of each form sends back, with the results of its tools,
and what each provider hears of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from google.genai import types as genai_types

from tests.pairs import Told

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LINK = f"data:image/png;base64,{PIXEL}"
FAILURE = "[tool error] "
"""How a failed tool is told where a form has no member for it
(docs/reference/translation.md#tool-calls-and-results).
"""


# --- What a conversation of one question holds after it, as a client has accumulated it,
# and for each call its result. The first has a picture, the second failed


def chat(told: Told) -> Any:
    (first, *_), (second, *_) = told.calls
    shown = [{"type": "text", "text": "Sunny"}, {"type": "image_url", "image_url": {"url": LINK}}]
    return [
        {"role": "user", "content": "Hi"},
        *told.message,
        {"role": "tool", "tool_call_id": first, "content": shown},
        {"role": "tool", "tool_call_id": second, "content": FAILURE + "no clock"},
    ]


def messages(told: Told) -> Any:
    (first, *_), (second, *_) = told.calls
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    shown = [{"type": "text", "text": "Sunny"}, {"type": "image", "source": source}]
    results = [
        {"type": "tool_result", "tool_use_id": first, "content": shown},
        {"type": "tool_result", "tool_use_id": second, "content": "no clock", "is_error": True},
    ]
    return [{"role": "user", "content": "Hi"}, *told.message, {"role": "user", "content": results}]


def gemini(told: Told) -> Any:
    (first, name, _), (second, other, _) = told.calls
    picture = genai_types.FunctionResponsePart(
        inline_data=genai_types.FunctionResponseBlob(mime_type="image/png", data=base64.b64decode(PIXEL))
    )
    results = [
        genai_types.FunctionResponse(id=first, name=name, response={"output": "Sunny"}, parts=[picture]),
        genai_types.FunctionResponse(id=second, name=other, response={"error": "no clock"}),
    ]
    parts = [genai_types.Part(function_response=result) for result in results]
    asked = genai_types.Content(role="user", parts=[genai_types.Part(text="Hi")])
    return [asked, *told.message, genai_types.Content(role="user", parts=parts)]


def ollama(told: Told) -> Any:
    (_, name, _), (_, other, _) = told.calls
    return [
        {"role": "user", "content": "Hi"},
        *told.message,
        {"role": "tool", "tool_name": name, "content": "Sunny", "images": [PIXEL]},
        {"role": "tool", "tool_name": other, "content": FAILURE + "no clock"},
    ]


def responses(told: Told) -> Any:
    (first, *_), (second, *_) = told.calls
    shown = [
        {"type": "input_text", "text": "Sunny"},
        {"type": "input_image", "image_url": LINK, "detail": "auto"},
    ]
    return [
        {"type": "message", "role": "user", "content": "Hi"},
        *told.message,
        {"type": "function_call_output", "call_id": first, "output": shown},
        {"type": "function_call_output", "call_id": second, "output": FAILURE + "no clock"},
    ]


TURNS: Mapping[str, Callable[[Told], Any]] = {
    "chat": chat,
    "messages": messages,
    "gemini": gemini,
    "ollama": ollama,
    "responses": responses,
}


# --- as the providers hear it ---------------------------------------------------------------------


@dataclass
class Result:
    """`text` has no mark of failure; `pictures` are those that stand in it, or that follow where a
    result can have none.
    """

    id: str
    text: str
    pictures: list[str]
    failed: bool


@dataclass
class Heard:
    system: str
    calls: list[tuple[str, str, Any]]
    results: list[Result]


def _text(content: Any, kind: str = "text") -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == kind)


def _result(id: str, text: str, pictures: list[str]) -> Result:
    return Result(id, text.removeprefix(FAILURE), pictures, text.startswith(FAILURE))


def _bare(url: str) -> str:
    return url.removeprefix("data:image/png;base64,")


def heard_chat(body: Any) -> Heard:
    said = body["messages"]
    calls = [
        (c["id"], c["function"]["name"], json.loads(c["function"]["arguments"]))
        for m in said
        for c in m.get("tool_calls", ())
    ]
    results: list[Result] = []
    for each in said:
        if each["role"] == "tool":
            # A result is text; "[image 1 of call ... follows]" leads to the picture in the turn
            # after it (docs/reference/translation.md#content-parts).
            text, _, _ = _text(each["content"]).partition("[image")
            results.append(_result(each["tool_call_id"], text.strip(), []))
    follows = [
        p for m in said if m["role"] == "user" and isinstance(m["content"], list) for p in m["content"]
    ]
    results[0].pictures += [_bare(p["image_url"]["url"]) for p in follows if p["type"] == "image_url"]
    for each in said:  # a client of this form may put it into the result, where it then stays
        if each["role"] == "tool" and isinstance(each["content"], list):
            results[0].pictures += [
                _bare(p["image_url"]["url"]) for p in each["content"] if p["type"] == "image_url"
            ]
    return Heard(_text(said[0]["content"]) if said[0]["role"] == "system" else "", calls, results)


def heard_messages(body: Any) -> Heard:
    blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
    calls = [(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"]
    results: list[Result] = []
    for block in blocks:
        if block["type"] == "tool_result":
            content = block["content"]
            shown = [] if isinstance(content, str) else [p for p in content if p["type"] == "image"]
            text = _text(content)
            failed = block.get("is_error", False) or text.startswith(FAILURE)
            pictures = [p["source"]["data"] for p in shown]
            results.append(Result(block["tool_use_id"], text.removeprefix(FAILURE), pictures, failed))
    return Heard(_text(body.get("system", "")), calls, results)


def standard(data: str) -> str:
    """Google's client writes base64 in its other alphabet, which its service alone reads."""
    return data.replace("-", "+").replace("_", "/")


def heard_gemini(body: Any) -> Heard:
    parts = [p for content in body["contents"] for p in content["parts"]]
    made = [p["functionCall"] for p in parts if "functionCall" in p]
    calls = [(c.get("id", ""), c["name"], c.get("args", {})) for c in made]
    results: list[Result] = []
    for told in (p["functionResponse"] for p in parts if "functionResponse" in p):
        blobs = [p.get("inlineData") or p["inline_data"] for p in told.get("parts", ())]
        pictures = [standard(blob["data"]) for blob in blobs]
        response = told["response"]
        text = str(response.get("error") or response.get("output"))
        failed = "error" in response or text.startswith(FAILURE)
        results.append(Result(told.get("id", ""), text.removeprefix(FAILURE), pictures, failed))
    system = "".join(p["text"] for p in body.get("systemInstruction", {"parts": []})["parts"])
    return Heard(system, calls, results)


def heard_ollama(body: Any) -> Heard:
    said = body["messages"]
    calls = [
        (c.get("id", ""), c["function"]["name"], c["function"]["arguments"])
        for m in said
        for c in m.get("tool_calls", ())
    ]
    results = [
        _result(m.get("tool_call_id", ""), m["content"], m.get("images", []))
        for m in said
        if m["role"] == "tool"
    ]
    return Heard(said[0]["content"] if said[0]["role"] == "system" else "", calls, results)


def heard_responses(body: Any) -> Heard:
    items = cast("list[dict[str, Any]]", body["input"])
    calls = [
        (i["call_id"], i["name"], json.loads(i["arguments"]))
        for i in items
        if i.get("type") == "function_call"
    ]
    results: list[Result] = []
    for item in items:
        if item.get("type") == "function_call_output":
            output = item["output"]
            shown = [] if isinstance(output, str) else [p for p in output if p["type"] == "input_image"]
            text = _text(output, "input_text")
            results.append(_result(item["call_id"], text, [_bare(p["image_url"]) for p in shown]))
    return Heard(body.get("instructions") or "", calls, results)


HEARD: Mapping[str, Callable[[Any], Heard]] = {
    "chat": heard_chat,
    "messages": heard_messages,
    "gemini": heard_gemini,
    "ollama": heard_ollama,
    "responses": heard_responses,
}
