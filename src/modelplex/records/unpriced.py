"""Models of unknown price, for which a budget in dollars counts nothing.

The models are those of the config and of the providers' lists in the directory.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from modelplex.config import AgentConfig, Config
from modelplex.core.errors import UnknownModel
from modelplex.records.log import EventLog
from modelplex.records.price import Prices, price_query, seller_of
from modelplex.records.price_list import bundled
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord
from modelplex.routing.aliases import Directory, ServedModels, permitted_candidates, resolve

WARNINGS_LIMIT = 1000
"""Warnings per config: clients may invent model names, which must not fill the log."""


class UnpricedModel(msgspec.Struct, frozen=True):
    """A model of unknown price that an agent with a budget in dollars may use. `model` is "" for
    any model that the provider may list.
    """

    agent: str
    provider: str
    model: str
    refused: bool

    @property
    def message(self) -> str:
        what = f"{self.provider}/{self.model}" if self.model else f"the models of {self.provider}"
        then = "it is refused" if self.refused else "the budget counts no dollars for it"
        return (
            f"The agent {self.agent} has a budget in dollars, and no price is known of {what}: {then}. "
            f"Name a price in [[prices]], or give a budget of tokens."
        )


def unpriced_models(config: Config, directory: Directory) -> list[UnpricedModel]:
    """Every such model, without duplicates, in the order of the config."""
    prices = Prices(config.prices)
    found = [
        UnpricedModel(agent.name, provider, model, refused=agent.on_unpriced == "refuse")
        for agent in config.agents
        if agent.budget.usd is not None
        for provider, model in _of_agent(agent, config, directory, prices)
    ]
    return list(dict.fromkeys(found))


class UnpricedWarnings:
    """A sink that warns once per agent and model."""

    def __init__(self, config: Config, log: EventLog) -> None:
        self._log = log
        self._warned: set[tuple[str, str, str]] = set()
        self.configure(config)

    def configure(self, config: Config) -> None:
        self._config = config
        self._budgeted = frozenset(agent.name for agent in config.agents if agent.budget.usd is not None)
        self._warned.clear()

    def check(self, directory: Directory) -> None:
        """Warn about models of the config and of the providers' lists."""
        for each in unpriced_models(self._config, directory):
            self._warn(each)

    def record(self, record: Record | ToolRecord, /) -> None:
        """Warn about a model that was listed later, or that a glob permitted."""
        if isinstance(record, ToolRecord) or record.agent not in self._budgeted:
            return
        for attempt in record.attempts:
            if attempt.usage is not None and attempt.charge is None:
                self._warn(UnpricedModel(record.agent, attempt.provider, attempt.model, refused=False))

    def _warn(self, each: UnpricedModel) -> None:
        key = (each.agent, each.provider, each.model)
        if key not in self._warned and len(self._warned) < WARNINGS_LIMIT:
            self._warned.add(key)
            self._log.warning(
                "no price is known",
                agent=each.agent,
                provider=each.provider,
                model=each.model,
                reason=each.message,
            )


def _of_agent(
    agent: AgentConfig, config: Config, directory: Directory, prices: Prices
) -> Iterator[tuple[str, str]]:
    sellers = {provider.name: seller_of(provider) for provider in config.providers}
    for name in directory.model_names(agent.models):
        try:
            candidates = permitted_candidates(
                directory, resolve(directory, name), name=name, globs=agent.models
            )
        except UnknownModel:  # an alias without a target
            continue
        for candidate in candidates:
            if prices.table(sellers[candidate.provider], candidate.model) is None:
                yield candidate.provider, candidate.model
    for served in directory.served:
        seller = sellers[served.provider]
        query = price_query(seller.type, "", seller.base_url)
        if not _is_open(served) or (query is not None and bundled().has_service(query)):
            continue
        if any(entry.provider in {None, served.provider} and "*" in entry.model for entry in config.prices):
            continue
        if not agent.models or any(glob in {"*", f"{served.provider}/*"} for glob in agent.models):
            yield served.provider, ""


def _is_open(served: ServedModels) -> bool:
    """Whether the provider may serve models that neither the config nor a list names."""
    return bool(served.patterns) or (not served.configured and served.listed is None)
