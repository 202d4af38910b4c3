"""The cost of a request in US dollars, if its price is known.

An unknown cost is None, never 0. The config's prices come first, then the cost that the provider
reports, then the price list of this package. Nothing is fetched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from modelplex.config import PriceConfig
from modelplex.core.events import Iteration, Usage
from modelplex.providers.types import TYPES
from modelplex.records.price_list import Price, PriceQuery, PriceRow, PriceTable, bundled, fixed_prices

COST = b'"cost"'
"""The member of a usage object with the cost that the provider reports."""
CACHE_LIMIT = 4_096
"""Models in the cache, about 1 KB each; the oldest are dropped. Clients can invent model names that
a provider accepts.
"""


class Seller(msgspec.Struct, frozen=True, cache_hash=True):
    """What prices depend on of a provider: name and type in the config, and the base URL ("" for
    the default of the type).
    """

    name: str
    type: str
    base_url: str = ""


class PricedProvider(Protocol):
    """The config of a provider, or the provider at run time."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def base_url(self) -> str: ...


def seller_of(provider: PricedProvider) -> Seller:
    return Seller(provider.name, provider.type, provider.base_url)


class Prices:
    """The prices of one config. `find` looks a model up in the price list."""

    def __init__(
        self,
        own: Sequence[PriceConfig] = (),
        *,
        find: Callable[[PriceQuery], PriceTable | None] | None = None,
    ) -> None:
        self._own = own
        self._find = find
        self._cache: dict[tuple[Seller, str], PriceTable | None] = {}

    def __repr__(self) -> str:
        return f"<Prices {len(self._own)} own, {len(self._cache)} cached>"

    def table(self, seller: Seller, model: str) -> PriceTable | None:
        """A model's prices: of the first entry of the config that matches, else of the list, and
        zero if the type of provider is free; None if there are none.
        """
        key = (seller, model)
        if key in self._cache:
            return self._cache[key]
        table = self._own_table(seller, model)
        if table is None and (query := price_query(seller.type, model, seller.base_url)) is not None:
            table = (self._find or bundled().find)(query)
        if table is None and (row := TYPES.get(seller.type)) is not None and row.free:
            table = fixed_prices({"input": 0.0, "output": 0.0}, service=seller.type, model=model)
        while len(self._cache) >= CACHE_LIMIT:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = table
        return table

    def _own_table(self, seller: Seller, model: str) -> PriceTable | None:
        for entry in self._own:
            if entry.provider in {None, seller.name} and any(fnmatchcase(model, g) for g in entry.model):
                return _table(entry, model)
        return None

    def amounts(
        self, seller: Seller, model: str, usage: Usage, *, conditions: Callable[[], Mapping[str, str]]
    ) -> tuple[float | None, float | None]:
        """The known cost in US dollars, and what a budget counts, which may be from estimated
        tokens. `conditions` returns what `cost` takes.
        """
        own = bool(self._own) and self._own_table(seller, model) is not None
        if (
            not own
            and usage.raw is not None
            and usage.raw.find(COST) >= 0  # `in` is slow: core/search.py
            and (reported := reported_cost(usage)) is not None
        ):
            return reported, reported
        if not usage.iterations and self.table(seller, model) is None:
            return None, None
        charge = self.charge(seller, model, usage, conditions=conditions())
        return (None if usage.estimated else charge), charge

    def _has_own(self, seller: Seller, model: str) -> bool:
        return bool(self._own) and self._own_table(seller, model) is not None

    def cost(
        self,
        seller: Seller,
        model: str,
        usage: Usage,
        *,
        conditions: Mapping[str, str] | None = None,
        at: float | None = None,
    ) -> float | None:
        """US dollars; None if the price is unknown or the tokens are an estimate.

        `conditions` are members of the request that prices depend on ("service_tier", "speed");
        `at` is the time of the call in Unix seconds, now by default.
        """
        if not self._has_own(seller, model) and (reported := reported_cost(usage)) is not None:
            return reported
        return None if usage.estimated else self.charge(seller, model, usage, conditions=conditions, at=at)

    def charge(
        self,
        seller: Seller,
        model: str,
        usage: Usage,
        *,
        conditions: Mapping[str, str] | None = None,
        at: float | None = None,
    ) -> float | None:
        """Like `cost`, but from price tables only, and for estimated tokens too. Each iteration is
        charged at its own model's prices.
        """
        at = time.time() if at is None else at
        if not usage.iterations:
            table = self.table(seller, model)
            return None if table is None else total(table, usage, conditions=conditions or {}, at=at)
        charges: list[float] = []
        for number, one in enumerate(usage.iterations):
            table = self.table(seller, one.model or model)
            charge = (
                None
                if table is None
                else total(table, _usage_of(one, usage, number), conditions=conditions or {}, at=at)
            )
            if charge is None:
                return None
            charges.append(charge)
        return sum(charges)


def _usage_of(one: Iteration, whole: Usage, number: int) -> Usage:
    """The usage of one iteration. Web searches are reported for the whole response, and charged
    once.
    """
    return Usage(
        fresh=one.fresh,
        cache_read=one.cache_read,
        cache_write=one.cache_write,
        cache_write_1h=one.cache_write_1h,
        output=one.output,
        web_searches=0 if number else whole.web_searches,
    )


def _table(entry: PriceConfig, model: str) -> PriceTable:
    given = {"input": entry.input, "output": entry.output}
    given |= {"cache_read": entry.cached_input} if entry.cached_input is not None else {}
    given |= {"cache_write": entry.cache_write} if entry.cache_write is not None else {}
    return fixed_prices(given, service="config", model=model)


# --- which price ----------------------------------------------------------------------------------


def price_query(provider_type: str, model: str, base_url: str | None) -> PriceQuery | None:
    """The query for the price list; None for local servers and private addresses, which bill
    nothing.

    For a type whose API many services have, the address selects the service.
    """
    row = TYPES.get(provider_type)
    if (row is not None and row.local) or (base_url and _is_private(base_url)):
        return None
    if base_url and row is not None and row.prices_by_address:
        return PriceQuery(model.lower(), url=base_url)
    service = row.price_service if row is not None else ""
    return PriceQuery(model.lower(), service=service or provider_type)


def _is_private(base_url: str) -> bool:
    """Whether the address is on this machine or in a private network."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))


# --- amounts -------------------------------------------------------------------------------------


class _ReportedCost(msgspec.Struct):
    """The cost in dollars that some providers report with usage (OpenRouter, Perplexity)."""

    cost: float | _Sum | None = None
    is_byok: bool | None = None
    cost_details: _Details | None = None


class _Sum(msgspec.Struct):
    total_cost: float


class _Details(msgspec.Struct):
    upstream_inference_cost: float | None = None


_decode_reported = msgspec.json.Decoder(_ReportedCost)


def reported_cost(usage: Usage) -> float | None:
    """The cost that the provider reports in its usage object, or None.

    With a user's own key at OpenRouter (`is_byok`), `cost` is OpenRouter's fee only; the price of
    the model is in `cost_details`. https://openrouter.ai/docs/use-cases/usage-accounting
    """
    if usage.raw is None or COST not in usage.raw:
        return None
    try:
        reported = _decode_reported.decode(usage.raw)
    except msgspec.MsgspecError:
        return None
    cost = reported.cost.total_cost if isinstance(reported.cost, _Sum) else reported.cost
    if cost is None or not math.isfinite(cost) or cost < 0:
        return None
    if reported.is_byok and reported.cost_details is not None:
        cost += max(0.0, reported.cost_details.upstream_inference_cost or 0.0)
    return cost


def total(
    table: PriceTable, usage: Usage, *, conditions: Mapping[str, str] | None = None, at: float
) -> float | None:
    """Dollars for these counts at that time (Unix seconds); None if the table lacks a price for
    some of the tokens.

    A count without its own price is charged like the count that contains it: cached tokens are
    input, reasoning is output.
    """
    row = _row(table, conditions=conditions or {}, at=at)
    whole = usage.input
    hour = usage.cache_write_1h if row.cache_write_1h else 0
    sides: tuple[tuple[int, Price | None, tuple[tuple[int, Price | None], ...]], ...] = (
        (
            whole,
            row.input,
            (
                (usage.cache_read, row.cache_read),
                (usage.cache_write_1h, row.cache_write_1h),
                (usage.cache_write - hour, row.cache_write),
                (usage.input_audio, row.input_audio),
                (usage.input_image, row.input_image),
            ),
        ),
        (
            usage.output,
            row.output,
            (
                (usage.reasoning, row.reasoning),
                (usage.output_audio, row.output_audio),
                (usage.output_image, row.output_image),
            ),
        ),
    )
    charged: list[tuple[int, Price]] = []
    for count, price, parts in sides:
        own = [(part, part_price) for part, part_price in parts if part_price is not None]
        charged += own
        rest = max(0, count - sum(part for part, _ in own))
        if price is not None:
            charged.append((rest, price))
        elif rest:
            return None
    if row.request is not None:
        charged.append((1, row.request))
    if not charged:
        return None
    if row.web_search is not None:
        charged.append((usage.web_searches, row.web_search))
    return sum(max(0, count) * price.at(whole) for count, price in charged)


def _row(table: PriceTable, *, conditions: Mapping[str, str], at: float) -> PriceRow:
    row = table.periods[0].prices
    for period in reversed(table.periods):
        if period.applies(at):
            row = period.prices
            break
    if not conditions:
        return row
    found: dict[str, Price] = {}
    for period in table.tiers:
        if conditions.items() >= period.when.items() and period.applies(at):
            for name in PriceRow.__struct_fields__:
                if (price := getattr(period.prices, name)) is not None:
                    found.setdefault(name, price)
    return msgspec.structs.replace(row, **found) if found else row
