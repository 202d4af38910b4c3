"""The models of the providers: from the config, from fetched lists, and fetched again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from modelplex.config import Config, ProviderConfig
from modelplex.core.errors import UnknownModel, UpstreamBroken
from modelplex.core.events import ListedModel
from modelplex.pipeline.model_catalog import FETCH_AGAIN_AFTER, ModelCatalog
from modelplex.routing.aliases import Candidate


class Lister:
    """A provider whose list is `names`; it fails where there is none."""

    def __init__(self, *names: str) -> None:
        self.names: tuple[str, ...] | None = names
        self.calls = 0

    async def models(self) -> list[ListedModel]:
        self.calls += 1
        if self.names is None:
            raise UpstreamBroken("It is away.")
        return [ListedModel(name) for name in self.names]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _catalog(lister: Lister, *providers: ProviderConfig) -> tuple[ModelCatalog, Clock, list[str]]:
    clock, faults = Clock(), list[str]()
    catalog = ModelCatalog(
        Config(providers=providers),
        cast("Any", {provider.name: lister for provider in providers}),
        now=clock,
        report=lambda _, sentence: faults.append(sentence),
    )
    return catalog, clock, faults


def _provider(name: str = "p", *models: str, priority: int = 1) -> ProviderConfig:
    return ProviderConfig(
        name=name, type="openai", base_url="http://127.0.0.1:1", models=models, priority=priority
    )


async def test_configured_models_need_no_list() -> None:
    lister = Lister()
    catalog, _, _ = _catalog(lister, _provider("p", "a"))
    assert await catalog.candidates("a") == (Candidate("p", "a"),)
    with pytest.raises(UnknownModel):
        await catalog.candidates("b")
    assert lister.calls == 0


async def test_an_unknown_name_fetches_the_lists_but_not_for_each_request() -> None:
    lister = Lister("a")
    catalog, clock, _ = _catalog(lister, _provider())
    await catalog.wait_for_fresh_lists()
    assert await catalog.candidates("a") == (Candidate("p", "a"),)
    assert catalog.is_known(Candidate("p", "a"))
    for _ in range(3):
        with pytest.raises(UnknownModel):
            await catalog.candidates("new")
    assert lister.calls == 1
    lister.names = ("a", "new")
    clock.now += FETCH_AGAIN_AFTER
    assert await catalog.candidates("new") == (Candidate("p", "new"),)
    catalog.stop()


async def test_a_failure_keeps_the_last_list_and_is_reported_once() -> None:
    lister = Lister("a")
    catalog, clock, faults = _catalog(lister, _provider())
    await catalog.wait_for_fresh_lists()
    lister.names = None
    for _ in range(2):
        clock.now += FETCH_AGAIN_AFTER
        await catalog.wait_for_fresh_lists()
    assert (faults, catalog.faults) == (["It is away."], {"p": "It is away."})
    assert await catalog.candidates("a") == (Candidate("p", "a"),)


async def test_an_agent_gets_its_own_models_only() -> None:
    catalog, _, _ = _catalog(Lister(), _provider("p", "a", "b"))
    assert await catalog.candidates("a", globs=("a*",)) == (Candidate("p", "a"),)
    with pytest.raises(UnknownModel, match="of this agent"):
        await catalog.candidates("b", globs=("a*",))


async def test_the_lowest_priority_comes_first() -> None:
    providers = (_provider("late", "a", priority=9), _provider("early", "a", priority=1))
    catalog, _, _ = _catalog(Lister(), *providers)
    assert [each.provider for each in await catalog.candidates("a")] == ["early", "late"]
