"""The verdict of the policy on a request, and the facts that it depends on."""

from __future__ import annotations

import msgspec

from modelplex.core.caller import Bound
from modelplex.core.request import StrippedValue


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict depends on besides the body.

    agent      the caller: an agent's name, else the listener's; only for keyed hashes
    secret     the key of those hashes; it belongs to the host and survives restarts
    allowed    names of allowed rules
    bounds     bounds of allowed rules; several bounds of one rule all apply
    models     globs of model names that the caller may use, in any field; empty for all
    own_model  the requested model as its provider names it, in a body that the gateway wrote;
               `models` does not apply to it
    """

    agent: str
    secret: bytes
    allowed: frozenset[str] = frozenset()
    bounds: frozenset[Bound] = frozenset()
    models: tuple[str, ...] = ()
    own_model: str = ""


class Allow(msgspec.Struct, frozen=True):
    """The body passes unchanged, byte for byte."""


class Amend(msgspec.Struct, frozen=True):
    """`body` replaces the body, `fields` are its members. `stripped` names what was stripped or
    overwritten.
    """

    body: bytes
    fields: dict[str, msgspec.Raw]
    stripped: tuple[StrippedValue, ...]


class Refuse(msgspec.Struct, frozen=True):
    """`path` is a JSON path as errors of the API write it ("input[2].content[0].image_url");
    `message` is for the user, and has the path, the rule and the setting that allows it.
    """

    rule: str
    path: str
    message: str


Verdict = Allow | Amend | Refuse
ALLOW = Allow()
