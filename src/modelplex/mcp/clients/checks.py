"""Checks of client messages, as functions of headers and body.

PURE. The order of the checks is the specification's (2026-07-28, transports, and the section on
both eras); the first fault is reported:

    readable          JSON, not nested too deep                                   400 -32700
    one message       an object with a method; batches and responses only where
                      they are allowed                                            400 -32600
    routing headers   each at most once                                           400 -32020
    envelope          version and capabilities of the client in _meta             400 -32602
    header = body     version, method and name                                    400 -32020
    version           a supported one                                             400 -32022
    arguments         headers that repeat arguments have the same values          400 -32020
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.bounds import check_values
from modelplex.dialects.core.json import as_object
from modelplex.dialects.core.surrogates import mended
from modelplex.mcp.clients.http_request import McpHeaders
from modelplex.mcp.constants import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY_VERSIONS,
    META_CAPABILITIES,
    META_VERSION,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    MODERN_VERSIONS,
    NEWEST_LEGACY,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    Era,
    Json,
)
from modelplex.mcp.header_arguments import header_arguments

SUPPORTED: Final = (*reversed(MODERN_VERSIONS), *reversed(LEGACY_VERSIONS))
"""The versions in the error for an unsupported one, newest first."""

MAX_VALUES: Final = 50_000
"""JSON values of one message: this many take about 20 ms to read and to check. The arguments of a
call have some dozens, and a file's text is one.
"""

NAMED_BY: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId"),
}
"""Methods whose `Mcp-Name` repeats a member of their params."""

STATUS_OF_CODE: Final[Mapping[int, int]] = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
"""The HTTP status of an error in the modern era. Others have 200."""

ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.0+)?")
"""An integer in a header. The length limit bounds the time to parse it."""

Kind = Literal["request", "notification", "response", "batch", "none"]


class ProtocolRefusal(msgspec.Struct, frozen=True):
    """A refused message: the HTTP status and the JSON-RPC error. `id` is the message's, or None."""

    status: int
    code: int
    message: str
    data: Json | None = None
    id: str | int | None = None

    def body(self) -> Json:
        error: Json = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return {"jsonrpc": "2.0", "id": self.id, "error": error}


def not_acceptable(*, wanted: str) -> ProtocolRefusal:
    return ProtocolRefusal(406, INVALID_REQUEST, f"Not acceptable: the Accept header must list {wanted}.")


def read(body: bytes | bytearray, *, max_depth: int) -> Any | ProtocolRefusal:
    """The JSON value of a body or a line; a ProtocolRefusal if it is invalid, has too many values,
    or is nested deeper than `max_depth`. A lone surrogate becomes U+FFFD, as in a model request.
    """
    content = bytes(body)
    try:
        check_values(content, most=MAX_VALUES)
        value = msgspec.json.decode(mended(content))
    except BadRequest as fault:
        return ProtocolRefusal(400, INVALID_REQUEST, fault.message.replace("The body", "The message", 1))
    except RecursionError:
        return _too_deep(max_depth)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        return ProtocolRefusal(400, PARSE_ERROR, f"Parse error: this is not JSON ({fault}).")
    # Counting brackets is a tenth of walking the value, and most messages have few.
    if content.count(b"{") + content.count(b"[") > max_depth and _deeper_than(max_depth, value):
        return _too_deep(max_depth)
    return value


def _too_deep(max_depth: int) -> ProtocolRefusal:
    return ProtocolRefusal(
        400, INVALID_REQUEST, f"The message is nested deeper than the {max_depth} levels of [mcp] max_depth."
    )


def _deeper_than(limit: int, value: Any) -> bool:
    """Breadth first, so that depth costs no stack."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    return cast("Json", value).values() if isinstance(value, dict) else cast("list[Any]", value)


def kind_of(value: Any) -> Kind:
    """What a JSON value is in the protocol; "none" is malformed."""
    if isinstance(value, list):
        return "batch"
    if not isinstance(value, dict):
        return "none"
    message = cast("Json", value)
    if message.get("jsonrpc") != "2.0":
        return "none"
    if "method" in message:
        if not isinstance(message["method"], str) or not isinstance(message.get("params", {}), dict):
            return "none"
        if "id" not in message:
            return "notification"
        return "request" if is_id(message["id"]) else "none"
    answers = ("result" in message) != ("error" in message)
    return "response" if answers and is_id(message.get("id")) else "none"


def is_id(id: Any) -> bool:
    return isinstance(id, str | int) and not isinstance(id, bool)


def id_of(value: Any) -> str | int | None:
    """The id for an error response."""
    if isinstance(value, dict) and is_id(given := cast("Json", value).get("id")):
        return cast("str | int", given)
    return None


def malformed(value: Any) -> ProtocolRefusal:
    """Why a value is no message."""
    reason = "Invalid request: "
    if isinstance(value, list):
        reason += "a batch is served on sessions of 2025-03-26 alone, with at least one message in it."
    elif not isinstance(value, dict):
        reason += "a JSON-RPC message is an object."
    else:
        message = cast("Json", value)
        if message.get("jsonrpc") != "2.0":
            reason += 'it lacks "jsonrpc": "2.0".'
        elif "method" not in message:
            reason += "it has no method, and nothing was asked that it could answer."
        elif not isinstance(message["method"], str):
            reason += "'method' must be a string."
        elif not isinstance(message.get("params", {}), dict):
            reason += "'params' must be an object."
        else:
            reason += "'id' must be a string or a whole number."
    return ProtocolRefusal(400, INVALID_REQUEST, reason, id=id_of(value))


def meta_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """`params._meta`, empty where there is none."""
    return as_object((as_object(message.get("params")) or {}).get("_meta")) or {}


def era_of(message: Mapping[str, Any], head: McpHeaders | None = None) -> Era | None:
    """The protocol era of a message; None if the message does not show it. `head` is None on
    connections without headers. The caller checks for a session.
    """
    if (head is not None and head.is_modern) or META_VERSION in meta_of(message):
        return "modern"
    return "legacy" if message.get("method") == "initialize" else None


def no_era(id: str | int | None) -> ProtocolRefusal:
    return ProtocolRefusal(
        400,
        INVALID_REQUEST,
        "This request has no protocol version and no session. Begin with initialize (the response has the session in Mcp-Session-Id), or send "
        f"the version in MCP-Protocol-Version and in params._meta. Supported are {', '.join(SUPPORTED)}.",
        {"supported": list(SUPPORTED)},
        id,
    )


def negotiated(params: Mapping[str, Any]) -> str:
    """The version of a legacy connection, from the version that `initialize` requests."""
    requested = params.get("protocolVersion")
    return requested if requested in LEGACY_VERSIONS else NEWEST_LEGACY


def _header_mismatch(fault: str, message: Mapping[str, Any]) -> ProtocolRefusal:
    return ProtocolRefusal(400, HEADER_MISMATCH, f"Header mismatch: {fault}", id=id_of(message))


def _repeated(head: McpHeaders, message: Mapping[str, Any]) -> ProtocolRefusal | None:
    """A header that occurs twice is refused: a proxy could read one and the gateway the other."""
    for name, values in (
        ("MCP-Protocol-Version", head.versions),
        ("Mcp-Method", head.methods),
        ("Mcp-Name", head.names),
    ):
        if len(values) > 1:
            return _header_mismatch(f"{name} is sent more than once.", message)
    return None


def envelope(message: Mapping[str, Any]) -> ProtocolRefusal | None:
    """Whether version and capabilities are there, in their types."""
    meta = meta_of(message)
    for key, kind, reason in ((META_VERSION, str, "a string"), (META_CAPABILITIES, dict, "an object")):
        if not isinstance(meta.get(key), kind):
            return ProtocolRefusal(
                400,
                INVALID_PARAMS,
                f"Invalid params: params._meta must have '{key}', {reason}.",
                id=id_of(message),
            )
    return None


def version_served(message: Mapping[str, Any]) -> ProtocolRefusal | None:
    requested = meta_of(message)[META_VERSION]
    if requested in MODERN_VERSIONS:
        return None
    return ProtocolRefusal(
        400,
        UNSUPPORTED_VERSION,
        f"Unsupported protocol version: {requested}. Supported are {', '.join(SUPPORTED)}.",
        {"supported": list(SUPPORTED), "requested": requested},
        id_of(message),
    )


def same_as_headers(head: McpHeaders, message: Mapping[str, Any]) -> ProtocolRefusal | None:
    """Compare version, method and name with the headers."""
    method = cast("str", message["method"])
    params = cast("Json", message.get("params", {}))
    pairs: list[tuple[str, tuple[str, ...], Any]] = [
        ("MCP-Protocol-Version", head.versions, meta_of(message)[META_VERSION]),
        ("Mcp-Method", head.methods, method),
    ]
    if (member := NAMED_BY.get(method)) is not None:
        pairs.append(("Mcp-Name", head.names, params.get(member)))
    for name, values, in_body in pairs:
        if not values:
            if in_body is None:  # the request has no name; a later check reports that better
                continue
            fault = f"{name} is missing; the body has {_short(in_body)}."
        elif (value := decoded(values[0])) is None:
            fault = f"{name} is not valid base64, or not in its one canonical form."
        elif value != in_body:
            fault = f"{name} is {_short(value)}, and the body has {_short(in_body)}."
        else:
            continue
        return _header_mismatch(fault, message)
    return None


def modern_fault(head: McpHeaders | None, message: Mapping[str, Any]) -> ProtocolRefusal | None:
    """What is wrong with a modern request, except for checks that need the tool's schema. `head` is
    None on connections without headers.
    """
    if head is None:
        return envelope(message) or version_served(message)
    return (
        _repeated(head, message)
        or envelope(message)
        or same_as_headers(head, message)
        or version_served(message)
    )


def same_arguments(head: McpHeaders, message: Mapping[str, Any], schema: Json) -> ProtocolRefusal | None:
    """Compare the `Mcp-Param-*` headers of a tools/call with the arguments that the schema of a
    listed tool names.
    """
    params = cast("Json", message.get("params", {}))
    arguments = params.get("arguments")
    for path, token in header_arguments(schema).items():
        values = [value for name, value in head.arguments if name == token.lower()]
        if fault := _argument_fault(values, _at(path, arguments)):
            return _header_mismatch(f"Mcp-Param-{token} {fault}", message)
    return None


def _argument_fault(values: Sequence[str], argument: Any) -> str | None:
    if argument is None:  # null and absent are the same
        return "is sent, and the argument is absent." if values else None
    if isinstance(argument, dict | list):
        return None  # no header can express it; the server judges the argument
    if not values:
        return "is missing, and the argument is present."
    if len(values) > 1:
        return "is sent more than once."
    value = decoded(values[0])
    if value is None:
        return "is not valid base64, or not in its one canonical form."
    return None if _is_same(value, argument) else f"is {_short(value)}, and the argument {_short(argument)}."


def _is_same(value: str, argument: Any) -> bool:
    if isinstance(argument, bool):
        return value == ("true" if argument else "false")
    if isinstance(argument, str):
        return value == argument
    if isinstance(argument, int) or (isinstance(argument, float) and argument.is_integer()):
        return WHOLE_NUMBER.fullmatch(value) is not None and int(value.partition(".")[0]) == int(argument)
    try:
        return bool(float(value) == argument)
    except ValueError:
        return False


def _at(path: tuple[str, ...], arguments: Any) -> Any:
    for name in path:
        if not isinstance(arguments, dict):
            return None
        arguments = cast("Json", arguments).get(name)
    return arguments


def decoded(value: str) -> str | None:
    """The value of a header, decoded if it is base64. None if it is malformed or not canonical:
    with two spellings of a value, a filter in front could see another one.
    """
    found = ENCODED.fullmatch(value)
    if found is None:
        return value
    try:
        data = base64.b64decode(found[1], validate=True)
        return data.decode() if base64.b64encode(data).decode() == found[1] else None
    except (binascii.Error, ValueError):
        return None


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(msgspec.json.encode(value), "utf-8", "replace")
    return text if len(text) <= 100 else text[:97] + "..."
