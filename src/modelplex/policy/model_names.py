"""Models that send data elsewhere on their own, refused by name, and the members that turn such
behaviour off (docs/reference/isolation-requirements.md#compatible-providers).

Facts about a type of provider come from the catalog as EgressFacts. A name is normalized as a
provider may do it: Unicode compatibility form, no blanks or stray slashes, case-insensitive, with
and without a vendor prefix.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from modelplex.core.egress import EgressFacts
from modelplex.policy.rules import refusal_message
from modelplex.policy.verdict import Refuse

SEARCHES = "self-searching-model"
OFF_MACHINE = "off-machine-model"
HIDDEN = "hidden-characters"
TOO_LONG = "unknown-form"
IS_URL = "unknown-form"
SCHEME_END = ":/"
"""In a name that is a URL: a server that loads models by name might load it from there."""
MAX_NAME_LENGTH = 256
"""Characters. The longest names of services have about 100; normalizing takes time for each
character.
"""
MAX_KNOWN_NAMES = 1_024
"""Names whose rule is remembered: clients repeat a few."""
NAMES: tuple[tuple[str, str], ...] = (
    (r".*-search(?:-.*)?", SEARCHES),
    (r".*deep[-_.]?(?:re)?search.*", SEARCHES),
    (r".*-researcher(?:-.*)?", SEARCHES),
    (r".*-online", SEARCHES),
    (r"compound(?:-mini|-beta)?(?:-.*)?", SEARCHES),
    (r"sonar(?:-.*)?", SEARCHES),
    (r"exa(?:-.*)?", SEARCHES),
    (r".*-cloud", OFF_MACHINE),
)
"""`(pattern, rule)` for models of every provider. A pattern matches a model's whole name, without
vendor prefix and tags.
"""
TAGS: tuple[tuple[str, str], ...] = (
    (r"online", SEARCHES),
    (r"(?:.*-)?cloud", OFF_MACHINE),
)
"""After a colon: OpenRouter's `:online`, Ollama's `:cloud` and `:120b-cloud`."""
MARKS: tuple[tuple[str, str], ...] = ((r".*@preset(?:/.*)?", SEARCHES),)
"""Names of stored presets, which may switch on anything."""
_COMPILED = tuple((re.compile(pattern), rule) for pattern, rule in NAMES)
_TAGS = tuple((re.compile(pattern), rule) for pattern, rule in TAGS)
_MARKS = tuple((re.compile(pattern), rule) for pattern, rule in MARKS)
_SLASHES = re.compile(r"/{2,}")
_BLANKS = re.compile(r"\s+")
_INVISIBLE = ("C", "Zl", "Zp", "Mn", "Me")
"""Unicode categories that are invisible or no characters of their own: control, format, unassigned,
line and paragraph separators, combining marks.
"""

STORE = "store"
StoreRule = Literal["never", "at_own_address", "always"]
"""Which providers store an exchange of the dialect unless its member `store` is false: none; those
whose facts or quirks say so, at the address of their type; all.
"""
_STORE_OFF: Mapping[str, bool] = MappingProxyType({STORE: False})
_NONE: Mapping[str, bool] = MappingProxyType({})
NO_FACTS = EgressFacts()


def refuse_model(model: str, *, facts: EgressFacts = NO_FACTS) -> Refuse | None:
    """The refusal of a model that sends data elsewhere on its own, or None. `model` is the name
    that the provider would receive. Names that the config spells out are not checked.
    """
    rule = rule_for_model(model, facts=facts)
    return None if rule is None else Refuse(rule=rule, path="model", message=refusal_message(rule, "model"))


def rule_for_model(model: str, *, facts: EgressFacts = NO_FACTS) -> str | None:
    """The rule that refuses a model of this name, or None."""
    if len(model) > MAX_NAME_LENGTH:
        return TOO_LONG
    return _rule_for_name(model, facts.searching_models)


@lru_cache(maxsize=MAX_KNOWN_NAMES)
def _rule_for_name(model: str, searching_models: str) -> str | None:
    if not (model.isascii() and model.isprintable()) and _has_invisible(model):
        return HIDDEN
    name = normalized_name(model)
    if SCHEME_END in name:
        return IS_URL
    for mark, rule in _MARKS:
        if mark.fullmatch(name):
            return rule
    base, *tags = name.rpartition("/")[2].split(":")
    for tag in tags:
        for pattern, rule in _TAGS:
            if pattern.fullmatch(tag):
                return rule
    for pattern, rule in _COMPILED:
        if pattern.fullmatch(base):
            return rule
    if searching_models and re.fullmatch(searching_models, base):
        return SEARCHES
    return None


def normalized_name(model: str) -> str:
    """Lower case, Unicode compatibility form; no blanks, repeated or outer slashes, or trailing
    colons.
    """
    name = _BLANKS.sub("", unicodedata.normalize("NFKC", model)).casefold()
    return _SLASHES.sub("/", name).strip("/:")


def _has_invisible(model: str) -> bool:
    return any(unicodedata.category(letter).startswith(_INVISIBLE) for letter in model)


def required_switches(
    facts: EgressFacts,
    dialect: str,
    *,
    store: StoreRule = "never",
    at_own_address: bool = True,
    stores_chat: bool = False,
    refuses: Collection[str] = (),
) -> Mapping[str, bool]:
    """The members that every sealed body to this provider gets at its top, in this dialect.

    store            `PolicyTable.store` of the dialect
    at_own_address   False for another server with that type's API: chat bodies get no `store`,
                     since strict servers reject an unknown member with 400
    stores_chat      `Quirks.stores_chat`: chat bodies get `store` at every address
    refuses          `Quirks.refuses`: a server that rejects `store` stores nothing. A quirk removes
                     no other switch
    """
    members = facts.switches.get(dialect) or (_STORE_OFF if store == "always" else _NONE)
    if store == "at_own_address" and stores_chat:
        members = {**members, STORE: False}
    elif store == "at_own_address" and not at_own_address:
        members = _without_store(members)
    return _without_store(members) if STORE in refuses else members


def _without_store(members: Mapping[str, bool]) -> Mapping[str, bool]:
    return {name: value for name, value in members.items() if name != STORE}
