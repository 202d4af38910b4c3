"""Facts about models by name, from models.toml. Those of a whole service are in compatible.toml."""

from __future__ import annotations

import datetime as dt
import re
from fnmatch import translate
from functools import cache, lru_cache

import msgspec

from modelplex.core.request import ModelFacts
from modelplex.providers import read_package_file

CACHE_LIMIT = 4096
"""Names whose facts are cached: more than any provider lists, and bounded, since clients may invent
names.
"""


class ModelFactsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first entry of the dialect with a glob that matches the name applies. `dialect` may be
    several. `source` is the page of the facts, `date` when it was read; `note` says what of them is
    not from there.
    """

    dialect: str | tuple[str, ...]
    match: tuple[str, ...]
    facts: ModelFacts
    source: str
    date: dt.date
    note: str = ""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[ModelFactsEntry, ...]


def read_entries(table: bytes) -> tuple[ModelFactsEntry, ...]:
    """The entries of models.toml, in order. Raises ValueError if one is malformed."""
    return msgspec.toml.decode(table, type=_Table).models


@lru_cache(maxsize=CACHE_LIMIT)
def model_facts(model: str, dialect: str) -> ModelFacts:
    """The facts about this model in this dialect; the defaults if there are none."""
    name = normalized_name(model)
    return next((facts for pattern, facts in _patterns(dialect) if pattern.fullmatch(name)), ModelFacts())


def normalized_name(model: str) -> str:
    """The name for the globs: without vendor prefix, lower case, "-" instead of "."."""
    return model.rpartition("/")[2].lower().replace(".", "-")


@cache
def _patterns(dialect: str) -> tuple[tuple[re.Pattern[str], ModelFacts], ...]:
    entries = read_entries(read_package_file("models.toml"))
    return tuple(
        (re.compile("|".join(translate(glob) for glob in entry.match)), entry.facts)
        for entry in entries
        if dialect in ((entry.dialect,) if isinstance(entry.dialect, str) else entry.dialect)
    )
