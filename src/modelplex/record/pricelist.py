"""Asks the price library, in a process of its own: `python -m modelplex.record.pricelist`, questions in, price tables out.

Above it stands price.py, which starts it and reads its answer; below it stands genai-prices alone. It knows no gateway and no network.

Why a process: the library's table takes 40 MB and half a second of a busy interpreter, and the gateway needs some ten numbers out of it.
The child is there for a moment, the numbers stay.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from genai_prices.types import (
        ModelInfo,
        ModelPrice,
        StartDateConstraint,
        TieredPrices,
        TimeOfDateConstraint,
    )

PER_MILLION = 1e6


class Question(msgspec.Struct, frozen=True):
    """Which model's price. `service` is the library's id of the service, or None where `url` (the base URL) is to tell it."""

    model: str
    service: str | None = None
    url: str | None = None


class Price(msgspec.Struct, frozen=True):
    """US dollars a piece. `tiers` are (tokens, price), rising: the last one whose tokens the whole input exceeds is the price of every piece."""

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, input_tokens: int) -> float:
        price = self.base
        for start, dearer in self.tiers:
            if input_tokens > start:
                price = dearer
        return price


class Prices(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the counts of our Usage cost, and each request. None where the library names no price of its own for it."""

    input: Price | None = None
    cache_read: Price | None = None
    cache_write: Price | None = None
    cache_write_1h: Price | None = None
    output: Price | None = None
    reasoning: Price | None = None
    request: Price | None = None


class Period(msgspec.Struct, frozen=True, omit_defaults=True):
    """When prices hold: from `start` (Unix seconds) on, or each day (UTC) between two seconds of the day, which may span midnight."""

    prices: Prices
    start: float | None = None
    daily: tuple[int, int] | None = None
    tier: str | None = None
    """The service tier that these prices are for; only in `Table.tiers`."""

    def holds(self, at: float) -> bool:
        if self.start is not None:
            return at >= self.start
        if self.daily is not None:
            begin, end = self.daily
            second = at % 86_400
            return second >= begin or second < end if end < begin else begin <= second < end
        return True


class Table(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model's prices. Of `periods` the last that holds counts, and the first where none does. Of `tiers` the first that holds, key by key."""

    service: str
    model: str
    periods: tuple[Period, ...]
    tiers: tuple[Period, ...] = ()


_questions = msgspec.json.Decoder(list[Question])


def answer(questions: list[Question]) -> list[Table | None]:
    """A table for each question, None where the library does not know the service or the model. Imports the library."""
    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot()
    ids = {provider.id for provider in providers.providers}
    tables: list[Table | None] = []
    for question in questions:
        if question.service is not None and question.service not in ids:
            tables.append(None)
            continue
        try:
            service, model = providers.find_provider_model(
                question.model, None, question.service, question.url
            )
        except LookupError:
            tables.append(None)
            continue
        tables.append(table_of(service.id, model))
    return tables


# --- the library's types, read into ours -------------------------------------------------------------------------------------------

# Our field, the library's attribute, and how many pieces its price is for.
_UNITS = (
    ("input", "input_mtok", PER_MILLION),
    ("cache_read", "cache_read_mtok", PER_MILLION),
    ("cache_write", "cache_write_mtok", PER_MILLION),
    ("cache_write_1h", "cache_write_1h_mtok", PER_MILLION),
    ("output", "output_mtok", PER_MILLION),
    ("reasoning", "output_reasoning_mtok", PER_MILLION),
    ("request", "requests_kcount", 1e3),
)


def table_of(service: str, model: ModelInfo) -> Table:
    """What the library knows of one model's prices, as far as our counts go."""
    from genai_prices.types import ModelPrice

    if isinstance(model.prices, ModelPrice):
        periods = [Period(_prices(model.prices))]
    else:
        periods = [_period(each.prices, each.constraint) for each in model.prices]
    tiers = [
        _period(variant.prices, variant.constraint, tier=variant.when["service_tier"])
        for variant in model.price_variants or ()
        if set(variant.when) == {"service_tier"}
    ]
    return Table(service=service, model=model.id, periods=tuple(periods), tiers=tuple(tiers))


def _period(
    prices: ModelPrice,
    constraint: StartDateConstraint | TimeOfDateConstraint | None,
    *,
    tier: str | None = None,
) -> Period:
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    if isinstance(constraint, StartDateConstraint):
        start = datetime.combine(constraint.start_date, time(tzinfo=UTC)).timestamp()
        return Period(_prices(prices), start=start, tier=tier)
    if isinstance(constraint, TimeOfDateConstraint):
        return Period(
            _prices(prices), daily=(_second(constraint.start_time), _second(constraint.end_time)), tier=tier
        )
    return Period(_prices(prices), tier=tier)


def _second(clock: time) -> int:
    """The second of the day in UTC; the library takes a time without a zone for UTC."""
    aware = clock if clock.tzinfo is not None else clock.replace(tzinfo=UTC)
    utc = datetime.combine(date(1970, 1, 2), aware).astimezone(UTC)
    return utc.hour * 3600 + utc.minute * 60 + utc.second


def _prices(prices: ModelPrice) -> Prices:
    return Prices(**{ours: _price(getattr(prices, theirs), pieces) for ours, theirs, pieces in _UNITS})


def _price(price: Decimal | TieredPrices | None, pieces: float) -> Price | None:
    from genai_prices.types import TieredPrices

    if isinstance(price, TieredPrices):
        tiers = tuple((tier.start, float(tier.price) / pieces) for tier in price.tiers)
        return Price(float(price.base) / pieces, tiers)
    return Price(float(price) / pieces) if isinstance(price, Decimal) else None


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(answer(_questions.decode(sys.stdin.buffer.read()))))
