"""The schema of Open Responses (https://www.openresponses.org/specification), version 2026-04-24,
as its types on PyPI have it.

It has fewer items and events than OpenAI's Responses: those that it lacks are left out of what is
validated, and named here. Its schema of an answer's format has null where the JSON Schema stands,
so that is left out too.
"""

from __future__ import annotations

from typing import Any

import openresponses_types as schema
from pydantic import BaseModel, TypeAdapter

FOREIGN_ITEMS = frozenset(
    {"custom_tool_call", "image_generation_call", "web_search_call", "tool_search_call"}
)
"""Output items of OpenAI's that the schema lacks."""
FOREIGN_EVENTS = ("response.custom_tool_call_input.",)
"""Prefixes of events that the schema lacks."""
_RESPONSE: TypeAdapter[Any] = TypeAdapter(schema.ResponseResource)


def _event_types() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for value in vars(schema).values():
        kind: Any = value  # the module has enums and literals too
        if getattr(kind, "__name__", "").endswith("StreamingEvent"):
            found.update({str(each.value): kind for each in kind.model_fields["type"].annotation})
    return found


_EVENTS = _event_types()


def check_response(answer: dict[str, Any]) -> None:
    """Raises ValidationError where the object is not one of the schema's."""
    items = [each for each in answer["output"] if each["type"] not in FOREIGN_ITEMS]
    tools = [each for each in answer["tools"] if each["type"] == "function"]
    text: dict[str, Any] = answer["text"]
    if "schema" in text["format"]:
        text = {**text, "format": {**text["format"], "schema": None}}
    _RESPONSE.validate_python({**answer, "output": items, "tools": tools, "text": text})


def check_event(event: dict[str, Any]) -> None:
    """Raises ValidationError where the event is not one of the schema's."""
    name: str = event["type"]
    item: dict[str, Any] = event.get("item") or {}
    if name.startswith(FOREIGN_EVENTS) or item.get("type") in FOREIGN_ITEMS:
        return
    if "response" in event:
        check_response(event["response"])
        return
    _EVENTS[name].model_validate(event)
