"""Resolves a client's model name to the candidates that serve it.

What each provider serves is an argument. `resolve` tries in this order:

1. An alias of that name.
2. `provider/model`, where the first part is a configured provider that has the rest, or may have
   it: that provider alone.
3. A model that providers serve under the whole name, by priority. A glob such as `"*"` does not
   serve a name whose first part is another configured provider, nor one that begins with
   `modelplex-`.
4. All three again without a leading `modelplex-`, unless the name as written begins with a
   configured provider.
5. An alias that is a pattern, in the order of the file.
6. The providers whose model list is not available, unless the name begins with a configured
   provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from modelplex.core.errors import UnknownModel

PREFIX = "modelplex-"
MAX_SUGGESTIONS = 5
"""How many similar names an error suggests."""


class ServedModels(msgspec.Struct, frozen=True):
    """What one provider serves. `names` are exact; `patterns` are globs ("gpt-*").

    `listed` is the provider's own model list, None if it is not available. It counts if the config
    names no models (`configured` is False), and expands the patterns for listings.
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

    def names_exactly(self, model: str) -> bool:
        """Whether the config or the provider's list has exactly this name, not just a glob."""
        return model in self.names or (self.listed is not None and model in self.listed and self.has(model))

    def serves_full_name(self, name: str, *, prefix: str) -> bool:
        """Whether it serves the whole `name`, which begins with `prefix`; a glob must begin with
        that too.
        """
        if not self.configured:
            return self.has(name)
        return name in self.names or any(
            pattern.startswith(prefix) and fnmatchcase(name, pattern) for pattern in self.patterns
        )

    def may_have(self, model: str) -> bool:
        """Like `has`, and True if the provider's list is not available."""
        return self.has(model) or (not self.configured and self.listed is None)

    def model_names(self) -> Iterator[str]:
        """The models that a listing may name."""
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
    """What each provider serves, by priority, and the aliases."""

    served: tuple[ServedModels, ...]
    aliases: Mapping[str, tuple[str, ...]] = {}

    def model_names(self, globs: Sequence[str] = ()) -> dict[str, str]:
        """Every name that can be requested, with the provider that would be tried first ("" for an
        alias); `globs` are an agent's models.

        A model is listed by its own name if that name resolves to it and `globs` permit it, else as
        `provider/model`.
        """
        names = dict.fromkeys((n for n in self.aliases if not is_pattern(n) and _matches(n, globs)), "")
        for served in self.served:
            for model in served.model_names():
                candidate = Candidate(served.provider, model)
                for name in (model, f"{served.provider}/{model}"):
                    if self._resolves_to(name, candidate) and permitted_candidates(
                        self, (candidate,), name=name, globs=globs
                    ):
                        names.setdefault(name, served.provider)
                        break
        return names

    def _resolves_to(self, name: str, candidate: Candidate) -> bool:
        """Whether `name`, which is no alias, resolves to this candidate."""
        if self.provider_of(name) is None and not name.startswith(PREFIX):
            return name == candidate.model
        return candidate in _direct(self.served, name)

    def provider_of(self, name: str) -> ServedModels | None:
        """The configured provider that is the first part of `provider/model`."""
        return _named(self.served, name)


def resolve(directory: Directory, name: str) -> tuple[Candidate, ...]:
    """The candidates for `name`, in the order in which they are tried. Raises UnknownModel with
    similar names.
    """
    stripped = name if directory.provider_of(name) else name.removeprefix(PREFIX)
    for candidate in dict.fromkeys((name, stripped)):
        if found := _exact(directory, candidate):
            return found
    for pattern, targets in directory.aliases.items():
        if is_pattern(pattern) and fnmatchcase(stripped, pattern) and (found := _targets(directory, targets)):
            return found
    if directory.provider_of(stripped) is None and (
        found := tuple(Candidate(s.provider, stripped) for s in directory.served if s.may_have(stripped))
    ):
        return found
    raise UnknownModel(_unknown_model_message(directory, name), param="model")


def permitted_candidates(
    directory: Directory, candidates: Sequence[Candidate], *, name: str, globs: Sequence[str]
) -> tuple[Candidate, ...]:
    """The candidates for `name` that an agent whose models are `globs` may use; empty globs permit
    all.

    A glob is matched against the name as the client wrote it. `openai/*` means the provider
    `openai`, if one is configured: it does not permit a model that another provider serves under
    such a name. For an alias, which the operator defined, only its name counts.
    """
    if not globs:
        return tuple(candidates)
    matching = [glob for glob in globs if fnmatchcase(name, glob)]
    if name in directory.aliases and matching:
        return tuple(candidates)
    providers = [directory.provider_of(glob) for glob in matching]
    return tuple(c for c in candidates if any(p is None or p.provider == c.provider for p in providers))


def shadowed_models(directory: Directory) -> list[tuple[Candidate, str]]:
    """Models whose own name resolves to another provider, each with the name that resolves to it.
    For `modelplex check`.
    """
    return [
        (Candidate(served.provider, model), f"{served.provider}/{model}")
        for served in directory.served
        for model in served.model_names()
        if Candidate(served.provider, model) not in _direct(directory.served, model)
    ]


def _exact(directory: Directory, name: str) -> tuple[Candidate, ...]:
    if targets := directory.aliases.get(name):
        return _targets(directory, targets)
    return _direct(directory.served, name)


def _targets(directory: Directory, targets: Sequence[str]) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for target in targets:
        found += (c for c in _direct(directory.served, target) if c not in found)
    return tuple(found)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def is_pattern(name: str) -> bool:
    """Whether it is a glob."""
    return any(mark in name for mark in "*?[")


def _named(served: Sequence[ServedModels], name: str) -> ServedModels | None:
    provider, slash, model = name.partition("/")
    if not (slash and model):
        return None
    return next((s for s in served if s.provider == provider), None)


def _direct(served: Sequence[ServedModels], name: str) -> tuple[Candidate, ...]:
    named = _named(served, name)
    if named is None:
        prefix = PREFIX if name.startswith(PREFIX) else ""
        return tuple(Candidate(s.provider, name) for s in served if s.serves_full_name(name, prefix=prefix))
    model = name.partition("/")[2]
    # OpenRouter's names begin with its name ("openrouter/auto"): a listed name takes precedence
    # over a glob.
    if named.names_exactly(name) and not named.names_exactly(model):
        return (Candidate(named.provider, name),)
    if named.may_have(model):
        return (Candidate(named.provider, model),)
    return tuple(
        Candidate(s.provider, name) for s in served if s.serves_full_name(name, prefix=f"{named.provider}/")
    )


def _unknown_model_message(directory: Directory, name: str) -> str:
    if name in directory.aliases:
        return f"The alias {name!r} resolves to no model that a provider serves; `modelplex check` says why."
    from difflib import get_close_matches

    known = list(directory.model_names())
    near = get_close_matches(name.removeprefix(PREFIX), known, n=MAX_SUGGESTIONS, cutoff=0.5)
    if near:
        return f"No provider here serves the model {name!r}. Similar names: {', '.join(near)}."
    if known:
        return f"No provider here serves the model {name!r}. Some that are served: {', '.join(known[:MAX_SUGGESTIONS])}; GET /models/v1/models lists all."
    return f"No provider here serves the model {name!r}, nor any other: no provider has named a model yet."
