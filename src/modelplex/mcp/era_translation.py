"""The four cells: a legacy or modern client before a legacy or modern server, and what has to
change of a message on its way between them.

PURE. Above it stands the hub; below it the words. Only the top level of a message and its `_meta`
are looked at, and copied where they change: whatever else there is rides along as the same object.
Source: the specification's revisions 2025-11-25 and 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, cast

import modelplex
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
"""Keys of `_meta` without a prefix that the specification gives a meaning to, and that pass
whatever the config allows.
"""

LONGEST_KEY: Final = 256
"""Characters of a key of `_meta` that is looked at: no key that has a meaning is longer, and those
that were looked at are remembered.
"""

LARGEST_CODE: Final = 2**31 - 1
"""Of an error: clients read codes as numbers of 32 bits."""

RESERVED_LABELS: Final = frozenset({"modelcontextprotocol", "mcp"})

HUBS_OWN: Final = ("inputResponses", "requestState", "task")
"""Members of params that only pass where the hub puts them: they belong to a conversation that it
keeps apart for each server and caller.
"""

ERA_MEMBERS: Final = ("resultType", "ttlMs", "cacheScope")
"""What a modern result has at its top, and a legacy one has not."""

READ_TTL: Final = 0

SERVER_INFO: Final = {"name": "modelplex", "title": "Modelplex", "version": modelplex.__version__}

_JSON_RPC: Final = frozenset({PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR})
_MODERN_CODES: Final = range(-32099, -32019)
"""What revision 2026-07-28 keeps for itself; -32000 to -32019 are free for servers, as in JSON-RPC.
"""
_MODERN_DEFINED: Final = frozenset({-32020, MISSING_CAPABILITY, UNSUPPORTED_VERSION})


# --- _meta ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def reserved(key: str) -> bool:
    """Whether a key of `_meta` belongs to the protocol: a prefix whose first or second label, or
    any but the last, is one of its two names.
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
    """What of a `_meta` goes on: the keys that a client and a server say to each other, as far as
    `globs` let them.
    """
    if not isinstance(meta, dict):
        return {}
    return {
        key: value
        for key, value in cast("Json", meta).items()
        if len(key) <= LONGEST_KEY and _passes(key, globs)
    }


# --- up -------------------------------------------------------------------------------------------


def upwards(params: Mapping[str, Any], *, globs: tuple[str, ...], **set_: Any) -> Json:
    """A request's params as its server gets them: the envelope stripped, `set_` put in. The
    server's handle writes an envelope of its own.
    """
    up = dict(params)
    meta = up.pop("_meta", None)
    for member in HUBS_OWN:
        up.pop(member, None)
    if meta and (kept := without_reserved(meta, globs)):
        up["_meta"] = kept
    if set_:
        up.update(set_)
    return up


# --- down -----------------------------------------------------------------------------------------


def downwards(
    result: Json, *, era: Era, server_era: Era, globs: tuple[str, ...], ttl: int | None = None
) -> Json:
    """A server's result as this client reads it. `ttl` is set where the result may be kept, in
    milliseconds.
    """
    down = dict(result)
    meta = without_reserved(down.pop("_meta", None), globs)
    if era == "modern":
        return modern(down, meta=meta, ttl=ttl)
    if server_era == "modern":
        for member in ERA_MEMBERS:
            down.pop(member, None)
    if meta:
        down["_meta"] = meta
    return down


def modern(result: Json, *, meta: Json | None = None, ttl: int | None = None) -> Json:
    """A result with what every modern one has. Lists and reads are private: what they hold depends
    on who asks.
    """
    result.setdefault("resultType", "complete")
    if ttl is not None:
        result["ttlMs"], result["cacheScope"] = ttl, "private"
    result["_meta"] = {**(meta or {}), META_SERVER: SERVER_INFO}
    return result


def inner(result: Json, *, globs: tuple[str, ...]) -> Json:
    """A result within a result, as a modern task holds it."""
    if "_meta" not in result:
        return result
    down = dict(result)
    if meta := without_reserved(down.pop("_meta"), globs):
        down["_meta"] = meta
    return down


def notification(
    message: Json, *, globs: tuple[str, ...], related: Callable[[object], Json] | None = None
) -> Json:
    """A server's notification without what the protocol keeps for each hop. `related` gives what of
    its `_meta` says which task it is about.
    """
    params: object = message.get("params")
    if not isinstance(params, dict) or "_meta" not in params:
        return message
    down = dict(cast("Json", params))
    said = down.pop("_meta")
    if meta := {**without_reserved(said, globs), **(related(said) if related is not None else {})}:
        down["_meta"] = meta
    return {**message, "params": down}


def error(told: Json, *, era: Era, method: str) -> Json:
    """A server's own error: its code and data as they are, unless the client's revision gives that
    code no meaning, or another.
    """
    code: object = told.get("code")
    if not isinstance(code, int) or abs(code) > LARGEST_CODE:
        return {**told, "code": INTERNAL_ERROR, "message": str(told.get("message", "the server failed"))}
    if era == "modern":
        if code == RESOURCE_NOT_FOUND and method == "resources/read":
            return {**told, "code": INVALID_PARAMS}
        undefined = code == RESOURCE_NOT_FOUND or (code in _MODERN_CODES and code not in _MODERN_DEFINED)
    else:
        undefined = code in _MODERN_DEFINED
    undefined = undefined or (-32768 <= code < -32099 and code not in _JSON_RPC)
    return {**told, "code": INTERNAL_ERROR} if undefined else told


# --- what a server may ask of a client ------------------------------------------------------------

FEATURES: Final[Mapping[str, str]] = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}


def may_be_asked(allow: Collection[str], *, claimed: Mapping[str, Any]) -> Json:
    """The capabilities that a server is told of: what the host allows it and this client can do.
    Built here, never copied: forms alone, and no addresses to open.
    """
    told: Json = {}
    if "sampling" in allow and isinstance(sampling := claimed.get("sampling"), dict):
        told["sampling"] = {name: {} for name in ("tools", "context") if name in sampling}
    forms: object = claimed.get("elicitation")
    if "elicitation" in allow and isinstance(forms, dict) and (not forms or "form" in forms):
        told["elicitation"] = {"form": {}}
    if "roots" in allow and isinstance(claimed.get("roots"), dict):
        told["roots"] = {}
    return told


def answerable(method: str, params: Mapping[str, Any], capabilities: Mapping[str, Any]) -> bool:
    """Whether a client with these capabilities, as `may_be_asked` built them, may be asked this."""
    if FEATURES.get(method) not in capabilities:
        return False
    return method != "elicitation/create" or params.get("mode", "form") == "form"


def required(method: str) -> Json:
    """`data.requiredCapabilities` of -32021 for a client that would have to answer this."""
    feature = FEATURES.get(method)
    return {feature: {}} if feature else {}


def claims(claimed: Mapping[str, Any], required: Mapping[str, Any]) -> bool:
    """Whether a client claims all that is required, extensions by their names."""
    extensions: object = claimed.get("extensions")
    known = cast("Json", extensions) if isinstance(extensions, dict) else {}
    return all(name in (known if of_extension else claimed) for name, of_extension in _each(required))


def named(required: Mapping[str, Any]) -> list[str]:
    """What is required, by name."""
    return [name for name, _ in _each(required)]


def _each(required: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for name, wanted in required.items():
        if name == "extensions" and isinstance(wanted, dict):
            yield from ((extension, True) for extension in cast("Json", wanted))
        else:
            yield name, False


_ANSWERS: Final[Mapping[str, str]] = {
    "roots": "roots",
    "action": "elicitation",
    "role": "sampling",
    "model": "sampling",
}
"""The member that gives away what an answer answers."""


def answers(responses: object, capabilities: Mapping[str, Any]) -> Json:
    """Of a modern client's `inputResponses`, those to questions that its server may ask. A guest
    that volunteers its roots would widen what a server serves.
    """
    if not isinstance(responses, dict):
        return {}
    kept: Json = {}
    for key, answer in cast("Json", responses).items():
        if isinstance(answer, dict):
            features = {feature for member, feature in _ANSWERS.items() if member in answer}
            if features and features <= capabilities.keys():
                kept[key] = answer
    return kept
