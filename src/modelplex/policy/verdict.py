"""What a policy says of a request: one of three values, and what it was told to decide by.

Above it stand the rules, which return it, and the gateway, which acts on it; below it the
vocabulary. A refusal carries the sentence that the user will read.
"""

from __future__ import annotations

import msgspec

from modelplex.core.caller import Bound
from modelplex.core.request import StrippedValue


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict depends on beside the body.

    agent    whose request it is: a name, or the listener's where there is none; it goes into keyed
             hashes only
    secret   the key of those hashes; it is the host's, and stays the same across restarts
    allowed  names of rules that are open
    bounds   within which some of these rules are open; of several for one rule each holds
    models   globs of model names that the caller may use, in whatever field; empty for all
    own      the model that is asked, as its provider calls it, where the gateway wrote the body; it
             is not held to `models`
    """

    agent: str
    secret: bytes
    allowed: frozenset[str] = frozenset()
    bounds: frozenset[Bound] = frozenset()
    models: tuple[str, ...] = ()
    own_model: str = ""


class Allow(msgspec.Struct, frozen=True):
    """The body may go as it is, byte for byte."""


class Amend(msgspec.Struct, frozen=True):
    """`body` may go in its place. `stripped` names what is gone or overwritten."""

    body: bytes
    stripped: tuple[StrippedValue, ...]


class Refuse(msgspec.Struct, frozen=True):
    """`path` is a JSON path as the API's own errors write it ("input[2].content[0].image_url");
    `sentence` says policy, field, rule and the setting that would allow it.
    """

    rule: str
    path: str
    message: str


Verdict = Allow | Amend | Refuse
ALLOW = Allow()
