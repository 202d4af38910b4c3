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

OPENAIS_ITEMS = frozenset(
    {"custom_tool_call", "image_generation_call", "web_search_call", "tool_search_call"}
)
"""Output items of OpenAI's that the schema lacks."""
OPENAIS_TOOLS = frozenset({"function"})
"""Tools that the schema has: each other type is an extension."""
OPENAIS_EVENTS = ("response.custom_tool_call_input.",)
"""Prefixes of events that the schema lacks."""
_RESPONSE: TypeAdapter[Any] = TypeAdapter(schema.ResponseResource)


def _event_types() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for name, value in vars(schema).items():
        if name.endswith("StreamingEvent"):
            kind: Any = value.model_fields["type"].annotation
            found.update({str(each.value): value for each in kind})
    return found


EVENTS = ("response.custom_tool_call_input.",)
"""Prefixes of events that the schema lacks."""
_RESPONSE: TypeAdapter[Any] = TypeAdapter(schema.ResponseResource)


def _event_types() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for value in vars(schema).values():
        if (
            isinstance(value, type)
            and issubclass(value, BaseModel)
            and value.__name__.endswith("StreamingEvent")
        ):
            [name] = value.model_fields["type"].annotation  # type: ignore[misc, union-attr]
            found[str(name.value)] = value
    return found


EVENTS = _event_types()


def check_response(answer: dict[str, Any]) -> None:
    """Raises ValidationError where the object is not one of the schema's."""
    items = [each for each in answer["output"] if each["type"] not in OPENAIS_ITEMS]
    tools = [each for each in answer["tools"] if each["type"] in OPENAIS_TOOLS]
    text: dict[str, Any] = answer["text"]
    if "schema" in text["format"]:
        text = {**text, "format": {**text["format"], "schema": None}}
    _RESPONSE.validate_python({**answer, "output": items, "tools": tools, "text": text})


def check_event(event: dict[str, Any]) -> None:
    """Raises ValidationError where the event is not one of the schema's."""
    name: str = event["type"]
    item: dict[str, Any] = event.get("item") or {}
    if name.startswith(OPENAIS_EVENTS) or item.get("type") in OPENAIS_ITEMS:
        return
    if "response" in event:
        check_response(event["response"])
        event = {**event, "response": {**event["response"], "output": [], "tools": []}}
    EVENTS[name].model_validate(event)
