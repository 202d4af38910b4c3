"""AWS's own description of Converse, from botocore, as an oracle: which requests are valid, and
event streams that botocore reads. botocore has no types.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from binascii import crc32
from functools import cache
from importlib import import_module
from typing import Any, cast

_loaders: Any = import_module("botocore.loaders")
_model: Any = import_module("botocore.model")
_validate: Any = import_module("botocore.validate")
_eventstream: Any = import_module("botocore.eventstream")
_parsers: Any = import_module("botocore.parsers")


@cache
def service() -> Any:
    loader = _loaders.Loader(include_default_search_paths=True)
    found = loader.load_service_model("bedrock-runtime", "service-2", "2023-09-30")
    return _model.ServiceModel(found, "bedrock-runtime")


def operation(*, stream: bool) -> Any:
    return service().operation_model("ConverseStream" if stream else "Converse")


def faults(body: bytes, *, model: str = "m", stream: bool = False) -> list[str]:
    """What AWS's service model says against this request body; none where it is valid."""
    shape = operation(stream=stream).input_shape
    found: list[str] = []
    value = _typed({**json.loads(body), "modelId": model}, shape, "", found)
    report = _validate.ParamValidator().validate(value, shape)
    return [*found, report.generate_report()] if report.has_errors() else found


def _typed(value: Any, shape: Any, at: str, found: list[str]) -> Any:
    """The value as botocore's validator takes it: blobs as bytes. Checks what it does not: unknown
    members, unions, words, patterns, the largest lengths.
    """
    if shape.type_name == "structure":
        if getattr(shape, "is_document_type", False):
            return value
        if not isinstance(value, dict):
            found.append(f"{at}: no object")
            return value
        given: dict[str, Any] = dict(cast("dict[str, Any]", value))
        unknown = given.keys() - shape.members.keys()
        if unknown:
            found.append(f"{at}: unknown {sorted(unknown)}")
        if shape.is_tagged_union and len(given) != 1:
            found.append(f"{at}: a union of {sorted(given)}")
        return {
            name: _typed(each, shape.members[name], f"{at}.{name}", found)
            for name, each in given.items()
            if name in shape.members
        }
    if shape.type_name == "list":
        _check_length(value, shape, at, found)
        return [_typed(each, shape.member, f"{at}[{n}]", found) for n, each in enumerate(value)]
    if shape.type_name == "map":
        return {name: _typed(each, shape.value, f"{at}.{name}", found) for name, each in value.items()}
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if isinstance(value, str):
        _check_length(value, shape, at, found)
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            found.append(f"{at}: {value!r} is not {pattern}")
        if shape.enum and value not in shape.enum:
            found.append(f"{at}: {value!r} is none of {shape.enum}")
    elif shape.type_name in {"integer", "float"} and value > shape.metadata.get("max", value):
        found.append(f"{at}: {value} is too large")
    return value


def _check_length(value: Any, shape: Any, at: str, found: list[str]) -> None:
    if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value)):
        found.append(f"{at}: a length of {len(value)}")


def members(shape: Any, seen: frozenset[str] = frozenset()) -> set[str]:
    """Every member below a shape, as "Shape.member"."""
    if shape.name in seen:
        return set()
    seen |= {shape.name}
    if shape.type_name == "list":
        return members(shape.member, seen)
    if shape.type_name == "map":
        return members(shape.value, seen)
    if shape.type_name != "structure":
        return set()
    found: set[str] = set()
    for name, each in shape.members.items():
        found |= {f"{shape.name}.{name}"} | members(each, seen)
    return found


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text


def message(payload: Any, **headers: str) -> bytes:
    """One message of an event stream."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    rows = b"".join(_header(":" + name.replace("_", "-"), value) for name, value in headers.items())
    head = struct.pack(">II", 16 + len(rows) + len(data), len(rows))
    start = head + struct.pack(">I", crc32(head)) + rows + data
    return start + struct.pack(">I", crc32(start))


def event(name: str, payload: Any) -> bytes:
    return message(payload, event_type=name, content_type="application/json", message_type="event")


def exception(name: str, text: str) -> bytes:
    return message(
        {"message": text}, exception_type=name, content_type="application/json", message_type="exception"
    )


def read_by_botocore(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream as botocore's parser gives them."""
    buffer = _eventstream.EventStreamBuffer()
    buffer.add_data(stream)
    parser = _parsers.EventStreamJSONParser()
    shape = operation(stream=True).output_shape.members["stream"]
    return [parser.parse(each.to_response_dict(), shape) for each in buffer]


USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}


def text_stream(*texts: str, usage: Any = USAGE, reason: str = "end_turn") -> list[bytes]:
    """The events of a whole stream of one text."""
    return [
        event("messageStart", {"role": "assistant", "p": "abc"}),
        *(event("contentBlockDelta", {"delta": {"text": text}, "contentBlockIndex": 0}) for text in texts),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        event("messageStop", {"stopReason": reason}),
        event("metadata", {"usage": usage, "metrics": {"latencyMs": 9}}),
    ]


def whole(*content: Any, reason: str = "end_turn", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """A whole response."""
    message = {"role": "assistant", "content": [*content]}
    return {
        "output": {"message": message},
        "stopReason": reason,
        "usage": usage,
        "metrics": {"latencyMs": 9},
        **more,
    }
