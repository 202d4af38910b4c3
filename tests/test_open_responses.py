"""The compliance tests of Open Responses, before the demo: what a newcomer runs first.

The requests are those of https://www.openresponses.org/compliance (src/lib/compliance-tests.ts of
github.com/openresponses/openresponses, read 2026-12-01), and so is what is asserted of the answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.dialects.core.sse import SseReader
from tests import open_responses
from tests.gateways import gateway

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}
        },
        "required": ["location"],
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TESTS: dict[str, dict[str, Any]] = {
    "basic-response": {"input": [("user", "Say hello in exactly 3 words.")]},
    "streaming-response": {"input": [("user", "Count from 1 to 5.")], "stream": True},
    "system-prompt": {
        "input": [("system", "You are a pirate. Always respond in pirate speak."), ("user", "Say hello.")]
    },
    "tool-calling": {"input": [("user", "What's the weather like in San Francisco?")], "tools": [WEATHER]},
    "tool-calling-streaming": {
        "input": [("user", "What's the weather like in San Francisco?")],
        "tools": [WEATHER],
        "stream": True,
    },
    "image-input": {
        "input": [
            (
                "user",
                [
                    {"type": "input_text", "text": "What do you see in this image? Answer in one sentence."},
                    {"type": "input_image", "image_url": PIXEL},
                ],
            )
        ]
    },
    "multi-turn": {
        "input": [
            ("user", "My name is Alice."),
            ("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
            ("user", "What is my name?"),
        ]
    },
}
CALL_EVENTS = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]


@pytest.mark.parametrize("name", TESTS)
async def test_the_demo_passes_the_compliance_tests(name: str, tmp_path: Path) -> None:
    messages = [{"type": "message", "role": role, "content": text} for role, text in TESTS[name]["input"]]
    body = {"model": "demo", "stream": False, **TESTS[name], "input": messages}
    async with gateway('[[providers]]\ntype = "demo"\n', folder=tmp_path) as gw:
        got = await gw.ask("POST", "/v1/responses", body)
    assert got.status == 200, got.body
    answer, told = got.body, list[str]()
    if body["stream"]:
        reader = SseReader()
        events = [json.loads(each.data) for each in reader.feed(got.body) + reader.end()]
        for each in events:
            open_responses.check_event(each)
        told = [each["type"] for each in events]
        assert told[-1] == "response.completed"
        answer = json.dumps(events[-1]["response"]).encode()
    found = json.loads(answer)
    open_responses.check_response(found)
    assert found["status"] == "completed"
    kinds = [each["type"] for each in found["output"]]
    if "tools" in body:
        assert kinds == ["function_call"]
        assert set(json.loads(found["output"][0]["arguments"])) == {"location"}
    else:
        assert kinds == ["message"]
    if name == "tool-calling-streaming":
        assert list(dict.fromkeys(each for each in told if each in CALL_EVENTS)) == CALL_EVENTS
