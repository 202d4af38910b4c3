"""Reads from a provider's error which parameter it does not take, and takes that out of a body;
takes what is refused of headers out of them.

A request is asked once more without a parameter that is a hint, such as `temperature` or
`reasoning_effort`. What changes the meaning of a request (MEANING) is never taken out: an agent
would take the answer for one to what it asked. What providers say is in refused_parameters.toml.
Imports no dialect.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from urllib.parse import quote

import msgspec

from modelplex.core.errors import ClientError, ModelplexError
from modelplex.core.request import Change
from modelplex.dialects.core.context_overflow import LONGEST
from modelplex.dialects.core.json import MALFORMED

STATUSES = frozenset({400, 422})
MEANING = frozenset(
    "model messages input inputs contents prompt prompts instructions system systeminstruction "
    "tools toolconfig toolchoice functions functioncall paralleltoolcalls maxtoolcalls "
    "responseformat format text outputconfig generationconfig responseschema responsejsonschema "
    "responsemimetype responsemodalities modalities audio suffix echo raw template "
    "stop stopsequences n candidatecount logprobs toplogprobs responselogprobs logitbias "
    "stream store background previousresponseid conversation cachedcontent container thread "
    "mcpservers websearchoptions plugins safetysettings options".split()
)
"""Parameters that are never taken out, without case and "_": the conversation, the tools and who
may call them, the form of the answer and where it stops, its number, what is stored, and what the
provider runs.
"""
CONTAINERS = frozenset({"text", "outputconfig", "generationconfig", "options"})
"""Of these a member may be taken out, unless its own name is in MEANING."""
TEMPLATE_RULES: Mapping[re.Pattern[str], Mapping[str, str]] = {
    re.compile(r"system message must be (?:at the beginning|the first)", re.IGNORECASE): {
        "system_messages": "first"
    },
    # The template of Gemma 2 raises for both.
    re.compile(r"system role (?:is )?not supported", re.IGNORECASE): {
        "system_messages": "nowhere",
        "roles": "alternate",
    },
    re.compile(r"developer instruction is not enabled", re.IGNORECASE): {"system_messages": "nowhere"},
    re.compile(r"roles must alternate", re.IGNORECASE): {
        "system_messages": "first",
        "roles": "alternate",
    },
}
"""The quirks that strict chat templates tell, with 400 or 500 (`system_messages.py`,
`alternating_roles.py`).
"""
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class RefusalSayings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What one service says."""

    said: tuple[tuple[str, str], ...]
    source: tuple[str, ...]
    codes: tuple[str, ...] = ()
    value_codes: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    value_phrases: tuple[str, ...] = ()
    parameter: str = ""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A parameter that a provider does not take. `path` is that of the provider's body
    ("temperature", "reasoning.summary"). `value` is the value alone that is refused, None for any.
    `instead` is the name under which it is taken.
    """

    path: str
    value: bytes | None = None
    instead: str | None = None


class _Phrase(msgspec.Struct, frozen=True, gc=False):
    pattern: re.Pattern[str]
    of_value: bool
    parameter: str


def sayings() -> Mapping[str, RefusalSayings]:
    """The tables by name."""
    data = pkgutil.get_data(__name__, "refused_parameters.toml")
    if data is None:
        raise FileNotFoundError("refused_parameters.toml is missing from the package")
    return msgspec.toml.decode(data, type=dict[str, RefusalSayings])


@cache
def _known() -> tuple[frozenset[str], frozenset[str], tuple[_Phrase, ...]]:
    """All codes, codes of values, and phrases. Read at the first error."""
    tables = sayings().values()
    phrases = [
        _Phrase(re.compile(phrase), of_value, table.parameter)
        for table in tables
        for of_value, given in ((False, table.phrases), (True, table.value_phrases))
        for phrase in given
    ]
    codes = frozenset(code for table in tables for code in table.codes)
    return codes, frozenset(code for table in tables for code in table.value_codes), tuple(phrases)


def refused_parameters(
    error: ModelplexError, body: bytes, *, added: Collection[str] = ()
) -> tuple[Refusal, ...]:
    """The parameters of `body`, which was sent, that the error names and that may be taken out;
    those that the gateway `added` always may.
    """
    if error.upstream.status not in STATUSES or not isinstance(error, ClientError):
        return ()
    named = list(_named(error))
    if not named:
        return ()
    try:
        members = _decode(body)
    except MALFORMED:
        return ()
    found = (_in_body(each, members) for each in named if each.path in added or may_take_out(each.path))
    return tuple({each.path: each for each in found if each is not None}.values())


class _Named(msgspec.Struct, frozen=True, gc=False):
    """What an error names: `of_value` where it refuses the value; `instead` is what is taken."""

    path: str
    of_value: bool
    instead: str | None = None


def _named(error: ModelplexError) -> Iterable[_Named]:
    codes, value_codes, phrases = _known()
    message = error.message[:LONGEST]
    for phrase in phrases:
        for match in phrase.pattern.finditer(message):
            groups = match.groupdict()
            at = f"{groups['at']}." if groups.get("at") else ""
            for name in (groups.get("name") or phrase.parameter).split(", "):
                yield _Named(f"{at}{name}", phrase.of_value, groups.get("instead"))
    code = error.upstream.code or ""
    if error.param and code in codes | value_codes:
        yield _Named(error.param, code in value_codes)


def may_take_out(path: str) -> bool:
    """Whether a request without this parameter still asks for the same."""
    names = [_plain(name) for name in path.split(".")]
    if "[" in path or not all(names):
        return False
    first = names[1] if names[0] in CONTAINERS and len(names) > 1 else names[0]
    return first not in MEANING


def _in_body(named: _Named, members: Mapping[str, msgspec.Raw]) -> Refusal | None:
    """The refusal with the path as the body has it; None where that has no such parameter."""
    names: list[str] = []
    raw = msgspec.Raw(b"")
    for step in named.path.split("."):
        name = next((each for each in members if _plain(each) == _plain(step)), None)
        if name is None:
            return None
        raw = members[name]
        names.append(name)
        members = _object(raw)
    return Refusal(".".join(names), bytes(raw) if named.of_value else None, named.instead)


def without(body: bytes, refusals: Iterable[Refusal]) -> tuple[bytes, list[Change]]:
    """The body without what is refused, and the changes by their path in it."""
    try:
        members = _decode(body)
    except MALFORMED:
        return body, []
    taken_out = (_take_out(refusal, members, refusal.path.split(".")) for refusal in refusals)
    changes = [change for change in taken_out if change is not None]
    return (_encode(members), changes) if changes else (body, [])


def _take_out(refusal: Refusal, members: dict[str, msgspec.Raw], steps: list[str]) -> Change | None:
    name, *rest = steps
    raw = members.get(name)
    if raw is None:
        return None
    if rest:
        inner = _object(raw)
        change = _take_out(refusal, inner, rest)
        if change is not None:
            members[name] = msgspec.Raw(_encode(inner))
        return change
    if refusal.value is not None and bytes(raw) != refusal.value:
        return None
    del members[name]
    if refusal.instead and refusal.instead not in members:
        members[refusal.instead] = raw
        return Change("rename", refusal.path, f"the provider takes {refusal.instead} instead")
    what = "this value" if refusal.value is not None else "it"
    return Change("drop", refusal.path, f"the provider refused {what}: asked again without")


def without_headers(
    headers: Sequence[tuple[bytes, bytes]], refused: Collection[tuple[bytes, bytes]]
) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[Change, ...]]:
    """The headers without what is refused, each value as a comma list, and the changes."""
    kept: list[tuple[bytes, bytes]] = []
    changes: list[Change] = []
    for name, value in headers:
        members = value.split(b",")
        left = [each for each in members if (name, each.strip()) not in refused]
        for each in members:
            if (name, each.strip()) in refused:
                path = f"{name.decode('latin-1')}/{quote(each.strip(), safe='')}"
                changes.append(Change("drop", path, "the provider refused it: asked again without"))
        if left:
            kept.append((name, value if len(left) == len(members) else b",".join(left).strip()))
    return tuple(kept), tuple(changes)


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return _decode(raw)
    except MALFORMED:
        return {}


def _plain(name: str) -> str:
    """A name without the difference between `top_p` and `topP`."""
    return name.replace("_", "").lower()
