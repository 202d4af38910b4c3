"""The table [[prices]]: the user's own prices of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelplex.config.rules import build, list_of, number, read_fields, rules_of, text
from modelplex.config.settings import PriceConfig, ProviderConfig
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode, quote, suggestion

MAX_PRICE: Final = 1e9
"""Dollars per million tokens; above any price in use."""
_DOLLARS = number(
    f"US dollars per million tokens, a number from 0 to {MAX_PRICE:.0f}",
    lambda value: 0 <= value <= MAX_PRICE,
)

PRICE: Final = rules_of(
    PriceConfig,
    model=list_of(
        text("the name of a model, or a glob"), "a model, or a list of them", least=1, single=str, unique=True
    ),
    provider=text("the name of one of [[providers]]"),
    input=_DOLLARS,
    output=_DOLLARS,
    cached_input=_DOLLARS,
    cache_write=_DOLLARS,
)
REQUIRED: Final = {
    "model": "the name of a model at its provider, or a glob",
    "input": "US dollars per million tokens of input",
    "output": "US dollars per million tokens of output, 0 where there is none",
}


def price(node: TomlNode) -> PriceConfig | Faulty:
    values, members = read_fields(node, PRICE)
    if not isinstance(node.value, dict):
        return FAULTY
    for key, expected in REQUIRED.items():
        if key not in members:
            node.child(key).reject(expected, found="none")
    return build(PriceConfig, values) if values.keys() >= REQUIRED.keys() else FAULTY


def check_providers(
    node: TomlNode, entries: Sequence[PriceConfig], providers: Sequence[ProviderConfig]
) -> None:
    """Reject each entry whose provider does not exist. `node` is the list of the entries."""
    elements = node.elements()
    if len(elements) > len(entries):
        return  # some are faulty
    names = [provider.name for provider in providers]
    for element, entry in zip(elements, entries, strict=True):
        if entry.provider is not None and entry.provider not in names:
            hint = suggestion(entry.provider, names)
            element.child("provider").reject(
                "the name of one of [[providers]]", found=quote(entry.provider), hint=hint
            )
