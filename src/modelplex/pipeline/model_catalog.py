"""What the providers serve, kept up to date.

Above it stands the gateway, which asks it for candidates; below it the upstreams, which are asked,
and `route/aliases`, which decides. A provider whose config names its models is never asked, unless
it names them by pattern. The others are asked in the background, at the start and every
`models_refresh` seconds, and once more when a name turns up that nobody knows: a model that was
pulled a minute ago is found. Asking delays no start and no known name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from modelplex.config import Config, ProviderConfig
from modelplex.core.errors import ModelplexError, UnknownModel
from modelplex.pipeline.upstream import Upstream
from modelplex.routing.aliases import Candidate, Directory, Served, is_pattern, permitted, resolve

ASK_AGAIN_AFTER = 10.0
"""Seconds between two listings that unknown names cause: a client that asks for nonsense in a loop
shall not pass it on.
"""
PATIENCE = 5.0
"""Seconds that a request with an unknown name waits for listings; then it is answered from what is
known.
"""
REMEMBERED = 4096
"""Names whose candidates are kept until a listing changes; a client that asks for more names than
that is no customer to hurry for.
"""


class ModelCatalog:
    """The directory of who serves what. `directory` is replaced as a whole, never changed."""

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
        self._asked = [
            p for p in _by_priority(config) if not p.models or any(is_pattern(name) for name in p.models)
        ]
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._refreshing: list[asyncio.Task[None]] = []
        self._found: dict[str, tuple[Candidate, ...]] = {}
        self.faults: dict[str, str] = {}
        self.directory = directory_of(config)

    def __repr__(self) -> str:
        return f"<Listing {len(self.directory.known())} names, {len(self._asked)} providers asked, {len(self.faults)} faults>"

    def start(self) -> None:
        """Begin asking, in the background."""
        if self._asked:
            self._ask_all()
            self._refreshing = [asyncio.create_task(self._refresh(p)) for p in self._asked]

    def stop(self) -> None:
        for task in [*self._refreshing, *([self._asking] if self._asking else [])]:
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
        if globs and not (found := permitted(self.directory, found, name=name, globs=globs)):
            raise UnknownModel(f"The model {name!r} is not among the models of this agent.", param="model")
        return found

    async def _candidates(self, name: str) -> tuple[Candidate, ...]:
        unsure = any(not s.configured and s.listed is None for s in self.directory.served)
        try:
            found = resolve(self.directory, name)
        except UnknownModel:
            if not self._asked:
                raise
        else:
            if not (unsure and self._asking is not None) or self._is_certain(found):
                return found
        await self.settled()
        return resolve(self.directory, name)

    async def asked(self) -> None:
        """Wait, not for long, for listings that are on their way."""
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=PATIENCE)

    async def settled(self) -> None:
        """Wait, not for long, until the providers have been asked a short time ago."""
        if self._asking is None and self._now() - self._asked_at >= ASK_AGAIN_AFTER:
            self._ask_all()
        await self.asked()

    def _is_certain(self, found: Sequence[Candidate]) -> bool:
        served = {s.provider: s for s in self.directory.served}
        return any(served[c.provider].has(c.model) for c in found)

    def is_known(self, candidate: Candidate) -> bool:
        """Whether its provider is configured with this model, or has listed it. False where it is
        only a guess.
        """
        return any(s.provider == candidate.provider and s.has(candidate.model) for s in self.directory.served)

    def _ask_all(self) -> None:
        self._asked_at = self._now()
        self._asking = asyncio.create_task(self._ask_each())

    async def _ask_each(self) -> None:
        try:
            await asyncio.gather(*(self._ask(p) for p in self._asked))
        finally:
            self._asking = None

    async def _refresh(self, provider: ProviderConfig) -> None:
        while True:
            await asyncio.sleep(provider.models_refresh)
            await self._ask(provider)

    async def _ask(self, provider: ProviderConfig) -> None:
        """One provider's list. A failure keeps the last known one, and is said once."""
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
    """What the config says of who serves what, before any provider has been asked."""
    return Directory(tuple(_served(p) for p in _by_priority(config)), config.aliases)


def _by_priority(config: Config) -> list[ProviderConfig]:
    return sorted(config.providers, key=lambda p: p.priority)


def _served(provider: ProviderConfig) -> Served:
    if not provider.models:
        return Served(provider.name, configured=False)
    return Served(
        provider.name,
        names=frozenset(m for m in provider.models if not is_pattern(m)),
        patterns=tuple(m for m in provider.models if is_pattern(m)),
    )
