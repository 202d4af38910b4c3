"""The attempts of a request: the candidates of its model, filtered by price and sealed policy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from modelplex.core.caller import Caller
from modelplex.core.errors import BudgetExceeded, UnknownModel
from modelplex.core.request import Attempt, RawRequest
from modelplex.dialects.endpoints import is_free
from modelplex.pipeline.model_catalog import ModelCatalog
from modelplex.pipeline.offload import Offload, is_heavy
from modelplex.pipeline.sealed_policy import EgressRules, SealedPolicy
from modelplex.pipeline.upstream import Upstream
from modelplex.records.price import Prices
from modelplex.routing.aliases import Candidate
from modelplex.routing.key_rotation import KeyRotation

REMEMBERED = 4096
"""Requests whose attempts are remembered: models times agents with other permissions."""
_Wanted = tuple[str, str, tuple[str, ...], bool, bool]
"""Model, endpoint, the caller's models, whether they need a price, and whether it is sealed."""


class CandidateSelection:
    """The candidates of one configuration."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        catalog: ModelCatalog,
        prices: Prices,
        egress: EgressRules,
        keys: KeyRotation,
        offload: Offload,
    ) -> None:
        self._upstreams = upstreams
        self._catalog = catalog
        self._prices = prices
        self._egress = egress
        self._keys = keys
        self._offload = offload
        self._remembered: dict[_Wanted, list[Attempt]] = {}
        self._remembered_of = catalog.directory
        """The lists of models from which they follow."""

    async def attempts(
        self, request: RawRequest, caller: Caller, *, only: tuple[str, ...] = ()
    ) -> tuple[list[Attempt], SealedPolicy | None]:
        """The attempts in order, and the policy of a sealed caller. `only` names providers that are
        asked instead of those that serve the model.

        Raises:
            UnknownModel: no provider is known to serve the model.
            BudgetExceeded: no candidate has a known price, and the caller's budget needs one.
            PolicyDenied: the sealed policy refuses the request.
        """
        wanted = (request.model, request.endpoint, caller.models, caller.priced_only, caller.sealed)
        attempts = self._remembered.get(wanted)
        if only:
            attempts = self._attempts_of(only, request)
        elif attempts is None or self._remembered_of is not self._catalog.directory:
            attempts = await self._attempts(request, caller)
            self._remember(wanted, attempts)
        if self._keys.any_preferred:
            attempts = self._keys.preferred_first(attempts, caller=caller.owner)
        if not caller.sealed:
            return attempts, None
        policy = SealedPolicy(request, caller, self._egress)
        if is_heavy(request.body):
            permit = partial(policy.permitted, attempts)
            return await self._offload.run(permit, body=request.body, owner=caller.owner), policy
        return policy.permitted(attempts), policy

    def _remember(self, wanted: _Wanted, attempts: list[Attempt]) -> None:
        """Attempts follow from what is wanted, the lists of models and the prices of one config."""
        if self._remembered_of is not self._catalog.directory or len(self._remembered) >= REMEMBERED:
            # When full, all are forgotten: invented names must not keep out the others.
            self._remembered_of = self._catalog.directory
            self._remembered.clear()
        self._remembered[wanted] = attempts

    def _attempts_of(self, providers: tuple[str, ...], request: RawRequest) -> list[Attempt]:
        return [
            attempt
            for name in providers
            for attempt in self._upstreams[name].attempts(request.model, request.endpoint)
        ]

    async def _attempts(self, request: RawRequest, caller: Caller) -> list[Attempt]:
        candidates = await self._catalog.candidates(request.model, globs=caller.models)
        if caller.priced_only and not is_free(request.endpoint):
            candidates = self._priced(candidates, caller)
        if caller.sealed:
            candidates = self._known_to_serve(candidates, request.model)
        return [
            attempt
            for each in candidates
            for attempt in self._upstreams[each.provider].attempts(each.model, request.endpoint)
        ]

    def _priced(self, candidates: tuple[Candidate, ...], caller: Caller) -> tuple[Candidate, ...]:
        """The candidates with a known price, for an agent with a budget in dollars."""
        priced = tuple(
            each
            for each in candidates
            if self._prices.table(self._upstreams[each.provider].seller, each.model) is not None
        )
        if candidates and not priced:
            names = ", ".join(dict.fromkeys(f"{each.provider}/{each.model}" for each in candidates))
            raise BudgetExceeded(
                f"Policy: no price is known of {names}, and {_budget_in_dollars(caller)}. "
                "The gateway's owner can name a price in [[prices]].",
                code="no_price_known",
                param="model",
            )
        return priced

    def _known_to_serve(self, candidates: tuple[Candidate, ...], model: str) -> tuple[Candidate, ...]:
        """Under the sealed policy a model name goes only to providers known to serve it: an
        invented name is a covert channel.
        """
        spelled = self._egress.spelled
        serving = tuple(
            each
            for each in candidates
            if (each.provider, each.model) in spelled or self._catalog.is_known(each)
        )
        if candidates and not serving:
            names = ", ".join(dict.fromkeys(each.provider for each in candidates))
            raise UnknownModel(
                f"The model {model!r} is not known here: the model list of {names} could not be fetched, and the sealed policy does not guess. "
                "The gateway's owner can name it in [[providers]] models.",
                param="model",
            )
        return serving


def _budget_in_dollars(caller: Caller) -> str:
    if caller.run is not None and caller.run.priced_only:
        return "this run has a budget in dollars (--budget)"
    return f'the agent {caller.agent!r} has a budget in dollars with on_unpriced = "refuse"'
