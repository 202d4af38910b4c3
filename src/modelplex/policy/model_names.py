"""Models that send data elsewhere by themselves, refused by their names, and the members that turn
such behaviour off (docs/reference/isolation-requirements.md#compatible-providers).

Facts about one type of provider come from the catalog as EgressFacts. A name is compared as a
provider may read it: in Unicode's compatible form, without blanks and stray slashes, without regard
to case, and with and without the name of its maker before it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

from modelplex.core.egress import EgressFacts
from modelplex.policy.rules import refusal_message
from modelplex.policy.verdict import Refuse

SEARCHES = "self-searching-model"
OFF_MACHINE = "off-machine-model"
HIDDEN = "hidden-characters"
TOO_LONG = "unknown-form"
AN_ADDRESS = "unknown-form"
AFTER_A_SCHEME = ":/"
"""Of a name that is an address: a server that loads models by their names might load it from there.
"""
MAX_NAME_LENGTH = 256
"""Characters. The longest names of services have some 100; reading a name costs time for each of
them.
"""

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
"""`(pattern, rule)` for models of every provider. A pattern matches the whole of a model's own
name, without its maker and its tags.
"""
TAGS: tuple[tuple[str, str], ...] = (
    (r"online", SEARCHES),
    (r"(?:.*-)?cloud", OFF_MACHINE),
)
"""What follows a colon: OpenRouter's `:online`, Ollama's `:cloud` and `:120b-cloud`."""
MARKS: tuple[tuple[str, str], ...] = ((r".*@preset(?:/.*)?", SEARCHES),)
"""Names that stand for settings that somebody stored, with whatever they switch on."""
_COMPILED = tuple((re.compile(pattern), rule) for pattern, rule in NAMES)
_TAGS = tuple((re.compile(pattern), rule) for pattern, rule in TAGS)
_MARKS = tuple((re.compile(pattern), rule) for pattern, rule in MARKS)
_SLASHES = re.compile(r"/{2,}")
_BLANKS = re.compile(r"\s+")
_UNSEEN = ("C", "Zl", "Zp", "Mn", "Me")
"""Categories of Unicode that a reader does not see, or not as a character: controls, formats,
unassigned ones, line ends, and marks that sit on others.
"""

STORE = "store"
StoreRule = Literal["never", "at_own_address", "always"]
"""Where bodies of a dialect have a member `store` that stores the exchange unless it is false:
nowhere; at the address of a type of provider that its facts name, and where a quirk says so; at
every provider.
"""
_STORE_OFF: Mapping[str, bool] = MappingProxyType({STORE: False})
_NONE: Mapping[str, bool] = MappingProxyType({})
NO_FACTS = EgressFacts()


def refuse_model(model: str, *, facts: EgressFacts = NO_FACTS) -> Refuse | None:
    """The refusal of a model that sends data elsewhere by itself, or None. `model` is the name as
    the provider would be sent it; names that the config spells out are not checked.
    """
    rule = rule_for_model(model, facts=facts)
    return None if rule is None else Refuse(rule=rule, path="model", message=refusal_message(rule, "model"))


def rule_for_model(model: str, *, facts: EgressFacts = NO_FACTS) -> str | None:
    """The rule that refuses a model of this name, or None."""
    if len(model) > MAX_NAME_LENGTH:
        return TOO_LONG
    if not (model.isascii() and model.isprintable()) and _hides_something(model):
        return HIDDEN
    name = normalized_name(model)
    if AFTER_A_SCHEME in name:
        return AN_ADDRESS
    for mark, rule in _MARKS:
        if mark.fullmatch(name):
            return rule
    base, *tags = name.rpartition("/")[2].split(":")
    for tag in tags:
        for pattern, rule in _TAGS:
            if pattern.fullmatch(tag):
                return rule
    if facts.search_off_models and re.fullmatch(facts.search_off_models, base):
        return None
    for pattern, rule in _COMPILED:
        if pattern.fullmatch(base):
            return rule
    if facts.searching_models and re.fullmatch(facts.searching_models, base):
        return SEARCHES
    return None


def normalized_name(model: str) -> str:
    """The name in lower case and in Unicode's compatible form, without blanks, repeated or outer
    slashes, and colons at its end.
    """
    name = _BLANKS.sub("", unicodedata.normalize("NFKC", model)).casefold()
    return _SLASHES.sub("/", name).strip("/:")


def _hides_something(model: str) -> bool:
    return any(unicodedata.category(letter).startswith(_UNSEEN) for letter in model)


def required_switches(
    facts: EgressFacts,
    dialect: str,
    *,
    store: StoreRule = "never",
    at_own_address: bool = True,
    stores_chat: bool = False,
    refuses: Collection[str] = (),
) -> Mapping[str, bool]:
    """The members that stand at the top of every sealed body to this provider in this dialect.

    store            `PolicyTable.store` of the dialect
    at_own_address   False for another server with that type's API: chat bodies get no `store`,
                     since strict servers answer an unknown member with 400
    stores_chat      `Quirks.stores_chat`: chat bodies get `store` at every address
    refuses          `Quirks.refuses`: a server that refuses `store` stores nothing. A quirk removes
                     no other switch
    """
    wanted = facts.switches.get(dialect) or (_STORE_OFF if store == "always" else _NONE)
    if store == "at_own_address" and stores_chat:
        wanted = {**wanted, STORE: False}
    elif store == "at_own_address" and not at_own_address:
        wanted = _without_store(wanted)
    return _without_store(wanted) if STORE in refuses else wanted


def _without_store(wanted: Mapping[str, bool]) -> Mapping[str, bool]:
    return {name: value for name, value in wanted.items() if name != STORE}
