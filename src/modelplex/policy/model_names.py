"""Names of models that reach out by themselves, and the switches with which a provider is told not
to (docs/reference/isolation-requirements.md#compatible-providers).

Above it stands the gateway, which asks for each candidate, and the walk, which asks for names
within a body; below it the rules. A name is read as a provider may read it: in its compatible form,
without blanks and stray slashes, without regard to case, and with and without the name of its maker
before it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from types import MappingProxyType

from modelplex.policy.rules import sentence
from modelplex.policy.verdict import Refuse

SEARCHES = "self-searching-model"
ELSEWHERE = "off-machine-model"
HIDDEN = "hidden-characters"
TOO_LONG = "unknown-form"
AN_ADDRESS = "unknown-form"
AFTER_A_SCHEME = ":/"
"""Of a name that is an address: a server that loads models by their names might load it from there.
"""
LONGEST_NAME = 256
"""Characters. The longest names of services have some 100; reading a name costs time for each of
them.
"""
ANY_TYPE = "*"

NAMES: tuple[tuple[str, str, str], ...] = (
    (ANY_TYPE, r".*-search(?:-.*)?", SEARCHES),
    (ANY_TYPE, r".*deep[-_.]?(?:re)?search.*", SEARCHES),
    (ANY_TYPE, r".*-researcher(?:-.*)?", SEARCHES),
    (ANY_TYPE, r".*-online", SEARCHES),
    (ANY_TYPE, r"compound(?:-mini|-beta)?(?:-.*)?", SEARCHES),
    (ANY_TYPE, r"sonar(?:-.*)?", SEARCHES),
    (ANY_TYPE, r"exa(?:-.*)?", SEARCHES),
    ("groq", r"compound.*", SEARCHES),
    (ANY_TYPE, r".*-cloud", ELSEWHERE),
)
"""`(type of provider, pattern, rule)`. A pattern matches the whole of a model's own name, without
its maker and its tags.
"""
TAGS: tuple[tuple[str, str], ...] = (
    (r"online", SEARCHES),
    (r"(?:.*-)?cloud", ELSEWHERE),
)
"""What follows a colon: OpenRouter's `:online`, Ollama's `:cloud` and `:120b-cloud`."""
MARKS: tuple[tuple[str, str], ...] = ((r".*@preset(?:/.*)?", SEARCHES),)
"""Names that stand for settings that somebody stored, with whatever they switch on."""
SEARCH_CAN_BE_TURNED_OFF: Mapping[str, str] = MappingProxyType(
    {"perplexity": r"sonar(?:-pro|-reasoning(?:-pro)?)?"}
)
"""By type: names that search by default and are served all the same, since each request says that
they must not (`switches`).
"""
_COMPILED = tuple((kind, re.compile(pattern), rule) for kind, pattern, rule in NAMES)
_TAGS = tuple((re.compile(pattern), rule) for pattern, rule in TAGS)
_MARKS = tuple((re.compile(pattern), rule) for pattern, rule in MARKS)
_HARMLESS = {kind: re.compile(pattern) for kind, pattern in SEARCH_CAN_BE_TURNED_OFF.items()}
_SLASHES = re.compile(r"/{2,}")
_BLANKS = re.compile(r"\s+")
_UNSEEN = ("C", "Zl", "Zp", "Mn", "Me")
"""Categories of Unicode that a reader does not see, or not as a character: controls, formats,
unassigned ones, line ends, and marks that sit on others.
"""

_OFF: Mapping[tuple[str, str], Mapping[str, object]] = {
    ("perplexity", "openai_chat"): MappingProxyType({"disable_search": True}),
    ("openai", "openai_chat"): MappingProxyType({"store": False}),
    ("azure", "openai_chat"): MappingProxyType({"store": False}),
    (ANY_TYPE, "openai_responses"): MappingProxyType({"store": False}),
}
"""By type of provider and dialect. The Responses form stores wherever it is spoken, unless it is
told not to.
"""
STORE = "store"
CHAT = "openai_chat"
_NONE: Mapping[str, object] = MappingProxyType({})


def refused_model(provider_type: str, model: str) -> Refuse | None:
    """The refusal of a name that reaches out by itself, or None. `model` is as the provider would
    be sent it; a name that the config spells out is not asked for here.
    """
    rule = rule_of_name(model, provider_type=provider_type)
    return None if rule is None else Refuse(rule=rule, path="model", sentence=sentence(rule, "model"))


def rule_of_name(model: str, *, provider_type: str = "") -> str | None:
    """The rule that keeps a model of this name from being asked, or None."""
    if len(model) > LONGEST_NAME:
        return TOO_LONG
    if not (model.isascii() and model.isprintable()) and _hides_something(model):
        return HIDDEN
    name = plain_name(model)
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
    harmless = _HARMLESS.get(provider_type)
    if harmless is not None and harmless.fullmatch(base):
        return None
    for kind, pattern, rule in _COMPILED:
        if kind in {ANY_TYPE, provider_type} and pattern.fullmatch(base):
            return rule
    return None


def plain_name(model: str) -> str:
    """The name in lower case and in Unicode's compatible form, without blanks, repeated or outer
    slashes, and colons at its end.
    """
    name = _BLANKS.sub("", unicodedata.normalize("NFKC", model)).casefold()
    return _SLASHES.sub("/", name).strip("/:")


def _hides_something(model: str) -> bool:
    return any(unicodedata.category(letter).startswith(_UNSEEN) for letter in model)


def switches(
    provider_type: str,
    dialect: str,
    *,
    at_its_own_address: bool = True,
    stores_chat: bool = False,
    refuses: Collection[str] = (),
) -> Mapping[str, object]:
    """Members that stand at the top of every sealed body that goes to a provider of this type in
    this dialect.

    at_its_own_address  False for another server of that type's form: it is not told to store no
                        chat, since strict servers answer an unknown `store` with 400
    stores_chat         `Quirks.stores_chat`: it is told wherever it is
    refuses             `Quirks.refuses`: who refuses `store` has nothing to store by. Another
                        switch is no quirk's to leave out
    """
    wanted = _OFF.get((provider_type, dialect)) or _OFF.get((ANY_TYPE, dialect), _NONE)
    if dialect == CHAT and stores_chat:
        wanted = {**wanted, STORE: False}
    elif dialect == CHAT and not at_its_own_address:
        wanted = _without_store(wanted)
    return _without_store(wanted) if STORE in refuses else wanted


def _without_store(wanted: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in wanted.items() if name != STORE}
