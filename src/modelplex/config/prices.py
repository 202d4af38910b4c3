"""The tables of [[prices]]: what models cost, in the words of the host.

It stands beside `read.py`, which calls it, and above the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from modelplex.config.rules import (
    FAULTY,
    Faulty,
    Rule,
    TomlNode,
    fields,
    kind_of,
    many,
    near,
    once,
    shown,
    text,
)
from modelplex.config.settings import PriceConfig, ProviderConfig

DEAREST: Final = 1e9
"""Dollars per million tokens; no price that anybody means is above it."""


def _price(node: TomlNode) -> float | Faulty:
    value = node.value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= DEAREST:
        return float(value)
    return node.wrong(f"US dollars per million tokens, a number from 0 to {DEAREST:.0f}", found=shown(value))


PRICE: Final[dict[str, Rule[object]]] = {
    "model": once(
        many(text("the name of a model, or a glob"), "a model, or a list of them", least=1, alone=True)
    ),
    "provider": text("the name of one of [[providers]]"),
    "input": _price,
    "output": _price,
    "cached_input": _price,
    "cache_write": _price,
}
NEEDED: Final = {
    "model": "the name of a model at its provider, or a glob",
    "input": "US dollars per million tokens of input",
    "output": "US dollars per million tokens of output, 0 where there is none",
}


def prices(node: TomlNode, *, homes: Mapping[str, str]) -> tuple[PriceConfig, ...] | Faulty:
    """[[prices]]; the first entry that fits a model counts."""
    if not isinstance(node.value, list):
        return node.wrong("a list of tables", found=kind_of(node.value), hint="each begins with [[prices]]")
    read = [_entry(element, homes=homes) for element in node.elements()]
    good = tuple(entry for entry in read if entry is not FAULTY)
    return good if len(good) == len(read) else FAULTY


def _entry(node: TomlNode, *, homes: Mapping[str, str]) -> PriceConfig | Faulty:
    values, members = fields(node, PRICE, homes=homes)
    if not isinstance(node.value, dict):
        return FAULTY
    for key, expected in NEEDED.items():
        if key not in members:
            node.child(key, None).wrong(expected, found="none")
    if not values.keys() >= NEEDED.keys():
        return FAULTY
    return PriceConfig(**cast("dict[str, Any]", values))


def of_providers(node: TomlNode, entries: Sequence[PriceConfig], providers: Sequence[ProviderConfig]) -> None:
    """Tells each entry whose provider is none of the config's. `node` is the list of entries."""
    names = [provider.name for provider in providers]
    for element, entry in zip(node.elements(), entries, strict=True):
        if entry.provider is not None and entry.provider not in names:
            element.child("provider", entry.provider).wrong(
                "the name of one of [[providers]]",
                found=shown(entry.provider),
                hint=near(entry.provider, names),
            )
