"""Translates messages between the legacy and the modern protocol era, for each pair of client and
server.

PURE. Changes the top level of a message and its `_meta`; the rest is passed on as the same object.
Source: the specification's revisions 2025-11-25 and 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, cast

import modelplex
from modelplex.dialects.core.json import as_object
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    META_SERVER,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    Era,
    Json,
)

PLAIN_META: Final = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
"""Keys of `_meta` without a prefix that the specification defines; they always pass."""

LONGEST_KEY: Final = 256
"""Characters of a key of `_meta`: longer keys have no meaning, and checked keys are cached."""

LARGEST_CODE: Final = 2**31 - 1
"""Clients read error codes as 32-bit numbers."""

RESERVED_LABELS: Final = frozenset({"modelcontextprotocol", "mcp"})

GATEWAY_MEMBERS: Final = ("inputResponses", "requestState", "task")
"""Members of params that only the gateway sets: their state is kept by server and caller."""

ERA_MEMBERS: Final = ("resultType", "ttlMs", "cacheScope")
"""Members at the top of a modern result that a legacy one does not have."""

READ_TTL: Final = 0

SERVER_INFO: Final = {"name": "modelplex", "title": "Modelplex", "version": modelplex.__version__}

_JSON_RPC: Final = frozenset({PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR})
_MODERN_CODES: Final = range(-32099, -32019)
"""Codes reserved by revision 2026-07-28; -32000 to -32019 are free for servers, as in JSON-RPC."""
_MODERN_DEFINED: Final = frozenset({-32020, MISSING_CAPABILITY, UNSUPPORTED_VERSION})


@lru_cache(maxsize=1024)
def reserved(key: str) -> bool:
    """Whether a key of `_meta` belongs to the protocol: the first or second label of its prefix, or
    any but the last, is one of the protocol's two names.
    """
    prefix, slash, _ = key.partition("/")
    if not slash:
        return False
    labels = prefix.split(".")
    return not RESERVED_LABELS.isdisjoint(labels[:2]) or not RESERVED_LABELS.isdisjoint(labels[:-1])


@lru_cache(maxsize=4096)
def _passes(key: str, globs: tuple[str, ...]) -> bool:
    if key in PLAIN_META:
        return True
    return not reserved(key) and any(fnmatchcase(key, glob) for glob in globs)


def without_reserved(meta: object, globs: tuple[str, ...]) -> Json:
    """The members of a `_meta` that are passed on: keys that are not reserved and that `globs`
    allow.
    """
    return {
        key: value
        for key, value in (as_object(meta) or {}).items()
        if len(key) <= LONGEST_KEY and _passes(key, globs)
    }


def params_for_server(params: Mapping[str, Any], *, globs: tuple[str, ...], **set_: Any) -> Json:
    """The params of a request for its server: without the client's envelope, with `set_` put in.
    The server's session adds its own envelope.
    """
    up = dict(params)
    meta = up.pop("_meta", None)
    for member in GATEWAY_MEMBERS:
        up.pop(member, None)
    if meta and (kept := without_reserved(meta, globs)):
        up["_meta"] = kept
    if set_:
        up.update(set_)
    return up


def result_for_client(
    result: Json, *, era: Era, server_era: Era, globs: tuple[str, ...], ttl: int | None = None
) -> Json:
    """A server's result in the client's era. `ttl` in milliseconds if the client may cache it."""
    down = dict(result)
    meta = without_reserved(down.pop("_meta", None), globs)
    if era == "modern":
        return modern_result(down, meta=meta, ttl=ttl)
    if server_era == "modern":
        for member in ERA_MEMBERS:
            down.pop(member, None)
    if meta:
        down["_meta"] = meta
    return down


def modern_result(result: Json, *, meta: Json | None = None, ttl: int | None = None) -> Json:
    """A result with the members of every modern result. Lists and reads are private: they differ by
    caller.
    """
    result.setdefault("resultType", "complete")
    if ttl is not None:
        result["ttlMs"], result["cacheScope"] = ttl, "private"
    result["_meta"] = {**(meta or {}), META_SERVER: SERVER_INFO}
    return result


def inner_result(result: Json, *, globs: tuple[str, ...]) -> Json:
    """A result inside a result, as in a modern task."""
    if "_meta" not in result:
        return result
    down = dict(result)
    if meta := without_reserved(down.pop("_meta"), globs):
        down["_meta"] = meta
    return down


def notification_for_client(
    message: Json, *, globs: tuple[str, ...], related: Callable[[object], Json] | None = None
) -> Json:
    """A server's notification without members that apply to one hop. `related` gives the members of
    `_meta` that name a task.
    """
    params: object = message.get("params")
    if not isinstance(params, dict) or "_meta" not in params:
        return message
    down = dict(cast("Json", params))
    original = down.pop("_meta")
    if meta := {**without_reserved(original, globs), **(related(original) if related is not None else {})}:
        down["_meta"] = meta
    return {**message, "params": down}


def error_for_client(error: Json, *, era: Era, method: str) -> Json:
    """A server's error with its code and data, unless the client's revision gives the code no
    meaning or another one.
    """
    code: object = error.get("code")
    if not isinstance(code, int) or abs(code) > LARGEST_CODE:
        return {
            **error,
            "code": INTERNAL_ERROR,
            "message": str(error.get("message", "the server failed")),
        }
    if era == "modern":
        if code == RESOURCE_NOT_FOUND and method == "resources/read":
            return {**error, "code": INVALID_PARAMS}
        undefined = code == RESOURCE_NOT_FOUND or (code in _MODERN_CODES and code not in _MODERN_DEFINED)
    else:
        undefined = code in _MODERN_DEFINED
    undefined = undefined or (-32768 <= code < -32099 and code not in _JSON_RPC)
    return {**error, "code": INTERNAL_ERROR} if undefined else error


FEATURES: Final[Mapping[str, str]] = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}


def announced_capabilities(allow: Collection[str], *, claimed: Mapping[str, Any]) -> Json:
    """The capabilities announced to a server: what the host allows and the client can do. Built
    here, never copied: forms only, no URLs.
    """
    allowed: Json = {}
    if "sampling" in allow and isinstance(sampling := claimed.get("sampling"), dict):
        allowed["sampling"] = {name: {} for name in ("tools", "context") if name in sampling}
    forms: object = claimed.get("elicitation")
    if "elicitation" in allow and isinstance(forms, dict) and (not forms or "form" in forms):
        allowed["elicitation"] = {"form": {}}
    if "roots" in allow and isinstance(claimed.get("roots"), dict):
        allowed["roots"] = {}
    return allowed


def may_ask(method: str, params: Mapping[str, Any], capabilities: Mapping[str, Any]) -> bool:
    """Whether a server may ask a client this. `capabilities` are those that it announced."""
    if FEATURES.get(method) not in capabilities:
        return False
    return method != "elicitation/create" or params.get("mode", "form") == "form"


def required_capabilities(method: str) -> Json:
    """`data.requiredCapabilities` of error -32021 for this method."""
    feature = FEATURES.get(method)
    return {feature: {}} if feature else {}


def declares(claimed: Mapping[str, Any], required: Mapping[str, Any]) -> bool:
    """Whether a client claims all required capabilities, extensions by name."""
    names = as_object(claimed.get("extensions")) or {}
    return all(name in (names if of_extension else claimed) for name, of_extension in _each(required))


def capability_names(required: Mapping[str, Any]) -> list[str]:
    """The names of the required capabilities."""
    return [name for name, _ in _each(required)]


def _each(required: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for name, value in required.items():
        if name == "extensions" and isinstance(value, dict):
            yield from ((extension, True) for extension in cast("Json", value))
        else:
            yield name, False


_ANSWERS: Final[Mapping[str, str]] = {
    "roots": "roots",
    "action": "elicitation",
    "role": "sampling",
    "model": "sampling",
}
"""The member that identifies the kind of an answer."""


def allowed_answers(responses: object, capabilities: Mapping[str, Any]) -> Json:
    """The `inputResponses` of a modern client to questions that its server may ask. Others are
    dropped: an unasked `roots` answer would widen what a server serves.
    """
    kept: Json = {}
    for key, answer in (as_object(responses) or {}).items():
        if isinstance(answer, dict):
            features = {feature for member, feature in _ANSWERS.items() if member in answer}
            if features and features <= capabilities.keys():
                kept[key] = answer
    return kept
