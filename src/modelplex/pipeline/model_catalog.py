"""The models that the providers serve, kept up to date.

A provider's model list is fetched where the config names none of its models, or names them by
pattern: in the background, at the start and every `models_refresh` seconds, and for an unknown
name, since the model may be new. Fetching delays neither the start nor a request for a known name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from modelplex.config import Config, ProviderConfig
from modelplex.core.errors import ModelplexError, UnknownModel
from modelplex.pipeline.upstream import Upstream
from modelplex.routing.aliases import (
    Candidate,
    Directory,
    ServedModels,
    is_pattern,
    permitted_candidates,
    resolve,
)

FETCH_AGAIN_AFTER = 10.0
"""Seconds between two fetches for unknown names: a client that sends invented names must not cause
a request for each.
"""
LIST_WAIT_S = 5.0
"""Seconds that a request with an unknown name waits for the lists."""
RECORDING = "replay"
"""The type of a provider that answers from a recording."""
REMEMBERED = 4096
"""Names whose candidates are cached until a list changes."""


class ModelCatalog:
    """`directory` has the models of each provider. It is replaced as a whole, never changed."""

    def __init__(
        self,
        config: Config,
        upstreams: Mapping[str, Upstream],
        *,
        now: Callable[[], float],
        report: Callable[[str, str], None],
    ) -> None:
        self._upstreams = upstreams
        self._now = now
        self._report = report
        self._listed = [
            p for p in _by_priority(config) if not p.models or any(is_pattern(name) for name in p.models)
        ]
        self._fetched_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: list[asyncio.Task[None]] = []
        self._found: dict[str, tuple[Candidate, ...]] = {}
        self.faults: dict[str, str] = {}
        self.directory = directory_of(config)
        self._recordings = frozenset(p.name for p in config.providers if p.type == RECORDING)

    def __repr__(self) -> str:
        return f"<ModelCatalog {len(self.directory.model_names())} names, {len(self._listed)} providers listed, {len(self.faults)} faults>"

    def start(self) -> None:
        """Begin to fetch, in the background."""
        if self._listed:
            self._fetch_all()
            self._refreshing = [asyncio.create_task(self._refresh(p)) for p in self._listed]

    def stop(self) -> None:
        for task in [*self._refreshing, *([self._fetching] if self._fetching else [])]:
            task.cancel()

    async def candidates(self, name: str, *, globs: Sequence[str] = ()) -> tuple[Candidate, ...]:
        """Who serves `name` to an agent whose models are `globs` (empty: all). Raises
        UnknownModel.
        """
        found = self._found.get(name)
        if found is None:
            found = await self._candidates(name)
            if len(self._found) < REMEMBERED:
                self._found[name] = found
        if globs and not (found := permitted_candidates(self.directory, found, name=name, globs=globs)):
            raise UnknownModel(f"The model {name!r} is not among the models of this agent.", param="model")
        return found

    async def _candidates(self, name: str) -> tuple[Candidate, ...]:
        unsure = any(not s.configured and s.listed is None for s in self.directory.served)
        try:
            found = self._resolved(name)
        except UnknownModel:
            if not self._listed:
                raise
        else:
            if not (unsure and self._fetching is not None) or self._is_certain(found):
                return found
        await self.wait_for_fresh_lists()
        return self._resolved(name)

    def _resolved(self, name: str) -> tuple[Candidate, ...]:
        """Who serves the name besides recordings, which are asked before."""
        directory = self.directory
        if self._recordings:
            live = tuple(s for s in directory.served if s.provider not in self._recordings)
            directory = msgspec.structs.replace(directory, served=live)
        return resolve(directory, name)

    async def wait_for_lists(self) -> None:
        """Wait, for at most LIST_WAIT_S, for the lists that are being fetched."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching], timeout=LIST_WAIT_S)

    async def wait_for_fresh_lists(self) -> None:
        """Wait, for at most LIST_WAIT_S, for lists that are not older than FETCH_AGAIN_AFTER."""
        if self._fetching is None and self._now() - self._fetched_at >= FETCH_AGAIN_AFTER:
            self._fetch_all()
        await self.wait_for_lists()

    def _is_certain(self, found: Sequence[Candidate]) -> bool:
        served = {s.provider: s for s in self.directory.served}
        return any(served[c.provider].has(c.model) for c in found)

    def is_known(self, candidate: Candidate) -> bool:
        """Whether its provider is configured with this model, or has listed it. False where it is
        only a guess.
        """
        return any(s.provider == candidate.provider and s.has(candidate.model) for s in self.directory.served)

    def _fetch_all(self) -> None:
        self._fetched_at = self._now()
        self._fetching = asyncio.create_task(self._fetch_each())

    async def _fetch_each(self) -> None:
        try:
            await asyncio.gather(*(self._fetch(p) for p in self._listed))
        finally:
            self._fetching = None

    async def _refresh(self, provider: ProviderConfig) -> None:
        while True:
            await asyncio.sleep(provider.models_refresh)
            await self._fetch(provider)

    async def _fetch(self, provider: ProviderConfig) -> None:
        """Fetch one provider's list. A failure keeps the last one, and is reported once."""
        try:
            models = await self._upstreams[provider.name].models()
        except ModelplexError as error:
            if self.faults.get(provider.name) != error.message:
                self.faults[provider.name] = error.message
                self._report(provider.name, error.message)
            return
        self.faults.pop(provider.name, None)
        listed = frozenset(model.id for model in models)
        self._found.clear()
        self.directory = msgspec.structs.replace(
            self.directory,
            served=tuple(
                msgspec.structs.replace(s, listed=listed) if s.provider == provider.name else s
                for s in self.directory.served
            ),
        )


def directory_of(config: Config) -> Directory:
    """The directory of the config, before any list was fetched."""
    return Directory(tuple(_served(p) for p in _by_priority(config)), config.aliases)


def _by_priority(config: Config) -> list[ProviderConfig]:
    return sorted(config.providers, key=lambda p: p.priority)


def _served(provider: ProviderConfig) -> ServedModels:
    if not provider.models:
        return ServedModels(provider.name, configured=False)
    return ServedModels(
        provider.name,
        names=frozenset(m for m in provider.models if not is_pattern(m)),
        patterns=tuple(m for m in provider.models if is_pattern(m)),
    )
