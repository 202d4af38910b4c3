"""Rules for one value of a body: strip, refuse, overwrite or hash it, and checks of URLs and model
names.
"""

from __future__ import annotations

import hmac
import re
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from modelplex.policy.accepted_types import Shape
from modelplex.policy.model_names import rule_for_model
from modelplex.policy.path import Path
from modelplex.policy.verdict import Facts
from modelplex.policy.walk import ANY_VALUE, Children, CustomRule, PolicyWalk, ValueRule

HASH_PREFIX = "mpx-"
HASH_LENGTH = 32
"""Hex digits of a keyed hash: 128 bits, and below the 64 characters that OpenAI accepts."""
DATA_URL = re.compile(r"(?i:data):[\w.+-]*+(?:/[\w.+-]++)?+(?:;[\w.+-]++(?:=[\w.+-]++)?+)*+,")
_DATA_URL_BYTES = re.compile(b'"' + DATA_URL.pattern.encode())
MAX_DATA_HEAD = 1_024
"""Characters of a data: URL before its data: a media type of at most 255 (RFC 4288), and a few
parameters. A longer one is not recognised.
"""
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n"
BASE64_STEP = 4


class StripRule(ValueRule):
    """Strips the value. If the rule is allowed, applies `when_allowed`."""

    __slots__ = ("rule", "when_allowed")

    def __init__(self, rule: str, when_allowed: ValueRule = ANY_VALUE) -> None:
        self.rule = rule
        self.when_allowed = when_allowed

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not walk.allows(self.rule):
            walk.strip(path, self.rule)
        elif type(value) not in self.when_allowed.allowed_types:
            self.when_allowed(walk, value, path)

    def children(self) -> Children:
        return ((f"({self.rule})", self.when_allowed),)


class RefuseRule(ValueRule):
    """Refuses the value, except null, an empty list and the objects in `harmless`. If the rule is
    allowed, applies `when_allowed`.
    """

    __slots__ = ("harmless", "rule", "when_allowed")

    def __init__(
        self, rule: str, when_allowed: ValueRule = ANY_VALUE, *, harmless: tuple[object, ...] = ()
    ) -> None:
        self.rule = rule
        self.when_allowed = when_allowed
        self.harmless = harmless

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is None or value == [] or any(value is harmless for harmless in self.harmless):
            return
        walk.refuse(path, self.rule)
        if type(value) not in self.when_allowed.allowed_types:
            self.when_allowed(walk, value, path)

    def children(self) -> Children:
        return ((f"({self.rule})", self.when_allowed),)


class OverwriteRule(ValueRule):
    """Replaces the value with `value`, unless it is that object already."""

    __slots__ = ("rule", "value")

    def __init__(self, rule: str, value: object) -> None:
        self.rule = rule
        self.value = value

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is not self.value and not walk.allows(self.rule):
            walk.overwrite(path, self.rule, self.value)


class ExceptRule(ValueRule):
    """Applies `check`, except to null and to the object `harmless` (False, for instance)."""

    __slots__ = ("check", "harmless")

    def __init__(self, harmless: object, check: ValueRule) -> None:
        self.harmless = harmless
        self.check = check

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is not None and value is not self.harmless:
            self.check(walk, value, path)

    def children(self) -> Children:
        return (("", self.check),)


class HashRule(ValueRule):
    """Replaces the value with a keyed hash of the agent, or of the agent and the value."""

    __slots__ = ("of_value", "purpose")

    def __init__(self, purpose: str, *, of_value: bool = False) -> None:
        self.purpose = purpose
        self.of_value = of_value

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is None or walk.allows("identity"):
            return
        hashed = msgspec.json.encode(value) if self.of_value else b""
        walk.overwrite(path, "identity", keyed_hash(walk.facts, self.purpose, hashed))


def keyed_hash(facts: Facts, purpose: str, value: bytes = b"") -> str:
    """`mpx-` and 32 hex digits: the same for the same agent and value, and meaningless without the
    key.
    """
    message = b"\0".join((purpose.encode(), str(len(facts.agent)).encode(), facts.agent.encode(), value))
    return HASH_PREFIX + hmac.digest(facts.secret, message, "sha256").hex()[:HASH_LENGTH]


def _inline_url(walk: PolicyWalk, value: Any, path: Path) -> None:
    if value is not None and not (isinstance(value, str) and is_data_url(value)):
        walk.refuse(path, "remote-url")


def _inline_bytes(walk: PolicyWalk, value: Any, path: Path) -> None:
    if value is not None and not (isinstance(value, str) and (_is_base64(value) or is_data_url(value))):
        walk.refuse(path, "remote-url")


def is_data_url(value: str) -> bool:
    return DATA_URL.match(value, 0, MAX_DATA_HEAD) is not None


def _is_base64(value: str) -> bool:
    """Padded base64, as every SDK writes it; most bare paths are not. No document's base64 begins
    with two slashes, but a URL without its scheme does.
    """
    if value.lstrip("\r\n").startswith("//") or not value.isascii() or value.encode().translate(None, BASE64):
        return False
    return len(value) % BASE64_STEP == 0 or "\n" in value


def _permitted_model(walk: PolicyWalk, value: Any, path: Path) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        walk.refuse(path, "unknown-form")
        return
    if (rule := rule_for_model(value)) is not None:
        walk.refuse(path, rule)
    models = walk.facts.models
    if models and not any(fnmatchcase(value, pattern) for pattern in models):
        walk.refuse(path, "unlisted-model")


def _is_inline_url(raw: msgspec.Raw) -> bool:
    """Whether the JSON is a data: URL. It is written without an escape before the data."""
    head = bytes(memoryview(raw)[: MAX_DATA_HEAD + 1])
    return _DATA_URL_BYTES.match(head) is not None


def _is_inline_bytes(raw: msgspec.Raw) -> bool:
    """Whether the JSON is base64 without line breaks, or a data: URL."""
    text = bytes(raw)
    if not text.startswith(b'"') or text.startswith(b'"//'):
        return False
    if (len(text) - 2) % BASE64_STEP == 0 and text.translate(None, BASE64) == b'""':
        return True
    return _is_inline_url(raw)


INLINE_URL = CustomRule(_inline_url, permits=Shape(msgspec.Raw, _is_inline_url))
"""A data: URL. Every other string is refused."""
INLINE_BYTES = CustomRule(_inline_bytes, permits=Shape(msgspec.Raw, _is_inline_bytes))
"""Base64, or a data: URL."""
PERMITTED_MODEL = CustomRule(_permitted_model)
"""A model that the caller may use and that does not send data elsewhere."""
UNKNOWN_FIELD = StripRule("unknown-field")
UNKNOWN_PART = RefuseRule("unknown-part")
