"""A model's name, as a client wrote it, becomes the candidates that serve it.

Above it stands the gateway; below it the errors alone. It is told what each provider serves and asks nobody. The order in which a name is understood:
an alias; a model that a provider serves; `provider/model`; the same without a leading `modelplex-`; an alias that is a pattern, in the order of the file, so that `"*"` takes what is
left; and where nothing fits, the providers that could not be asked what they have, since they may have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import msgspec

from modelplex.errors import UnknownModel

PREFIX = "modelplex-"
NEAR_NAMES = 5
"""How many near names an unknown one is answered with: enough to find the typo, few enough to read."""


class Served(msgspec.Struct, frozen=True):
    """What one provider serves. `names` are exact; `patterns` are globs ("gpt-*").

    `listed` is what the provider said it has, None where it could not be asked. It counts where the config names no models, and fills in the
    patterns for listings.
    """

    provider: str
    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    listed: frozenset[str] | None = None
    configured: bool = True

    def has(self, model: str) -> bool:
        if self.configured:
            return model in self.names or any(fnmatchcase(model, pattern) for pattern in self.patterns)
        return self.listed is not None and model in self.listed

    def may_have(self, model: str) -> bool:
        """True as well where nobody can know."""
        return self.has(model) or (not self.configured and self.listed is None)

    def known(self) -> Iterator[str]:
        """The models that can be named to a client."""
        if not self.configured:
            yield from sorted(self.listed or ())
            return
        yield from sorted(self.names)
        for model in sorted(self.listed or ()):
            if model not in self.names and self.has(model):
                yield model


class Candidate(msgspec.Struct, frozen=True):
    """A provider and the name of the model there."""

    provider: str
    model: str


class Directory(msgspec.Struct, frozen=True):
    """Who serves what, by priority, and the aliases."""

    served: tuple[Served, ...]
    aliases: Mapping[str, tuple[str, ...]] = {}

    def known(self) -> dict[str, str]:
        """Every name that can be asked for, with the provider that would be tried first ("" for an alias)."""
        names: dict[str, str] = dict.fromkeys((name for name in self.aliases if not is_pattern(name)), "")
        for served in self.served:
            for model in served.known():
                names.setdefault(model, served.provider)
        return names


def resolve(directory: Directory, name: str) -> tuple[Candidate, ...]:
    """The candidates for `name`, in the order in which they are to be tried. Raises UnknownModel with the nearest names."""
    asked = name.removeprefix(PREFIX)
    for understood in dict.fromkeys((name, asked)):
        if found := _understand(directory, understood):
            return found
    for pattern, targets in directory.aliases.items():
        if is_pattern(pattern) and fnmatchcase(asked, pattern) and (found := _targets(directory, targets)):
            return found
    if found := tuple(Candidate(s.provider, asked) for s in directory.served if s.may_have(asked)):
        return found
    raise UnknownModel(_sentence(directory, name), param="model")


def _understand(directory: Directory, name: str) -> tuple[Candidate, ...]:
    if targets := directory.aliases.get(name):
        return _targets(directory, targets)
    return _direct(directory.served, name)


def _targets(directory: Directory, targets: Sequence[str]) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for target in targets:
        found += (c for c in _direct(directory.served, target) if c not in found)
    return tuple(found)


def is_pattern(name: str) -> bool:
    """Whether it is a glob, and not a name."""
    return any(mark in name for mark in "*?[")


def _direct(served: Sequence[Served], name: str) -> tuple[Candidate, ...]:
    if found := tuple(Candidate(s.provider, name) for s in served if s.has(name)):
        return found
    provider, slash, model = name.partition("/")
    if slash and model:
        return tuple(
            Candidate(s.provider, model) for s in served if s.provider == provider and s.may_have(model)
        )
    return ()


def _sentence(directory: Directory, name: str) -> str:
    known = list(directory.known())
    near = get_close_matches(name.removeprefix(PREFIX), known, n=NEAR_NAMES, cutoff=0.5)
    if near:
        return f"No provider here serves the model {name!r}. Near names: {', '.join(near)}."
    if known:
        return f"No provider here serves the model {name!r}. Some that are served: {', '.join(known[:NEAR_NAMES])}; GET /models/v1/models lists all."
    return f"No provider here serves the model {name!r}, nor any other: no provider has named a model yet."
