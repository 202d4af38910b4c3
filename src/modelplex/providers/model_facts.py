"""Facts about a model by its name, read from models.toml. What a service as a whole differs in is
in its row of compatible.toml.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import cache, lru_cache

import msgspec

from modelplex.core.request import ModelFacts
from modelplex.providers import read_package_file

CACHE_LIMIT = 4096
"""Names whose facts are kept: more than any provider lists, and a client that invents names does
not fill our memory.
"""


class ModelFactsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row: the first whose dialect is the same and one of whose globs fits the name decides."""

    dialect: str
    match: tuple[str, ...]
    facts: ModelFacts


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[ModelFactsEntry, ...]


def read_entries(table: bytes) -> tuple[ModelFactsEntry, ...]:
    """The rows of models.toml, in order. Raises ValueError where it is not of that form."""
    return msgspec.toml.decode(table, type=_Table).models


@lru_cache(maxsize=CACHE_LIMIT)
def model_facts(model: str, dialect: str) -> ModelFacts:
    """What is known of this model, asked for in this dialect; the defaults where nothing is."""
    name = normalized_name(model)
    return next((known for pattern, known in _patterns(dialect) if pattern.fullmatch(name)), ModelFacts())


def normalized_name(model: str) -> str:
    """A model's name as the globs see it: without who sells it, in lower case, and with "-" for
    ".".
    """
    return model.rpartition("/")[2].lower().replace(".", "-")


@cache
def _patterns(dialect: str) -> tuple[tuple[re.Pattern[str], ModelFacts], ...]:
    entries = read_entries(read_package_file("models.toml"))
    return tuple(
        (re.compile("|".join(translate(glob) for glob in entry.match)), entry.facts)
        for entry in entries
        if entry.dialect == dialect
    )
