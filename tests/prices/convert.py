"""genai-prices' table in the form of modelplex.records.price_list."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import distribution

import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from modelplex.records.price_list import Clause, Period, Price, PricedModel, PriceRow

SOURCE = "https://github.com/pydantic/genai-prices"
UNITS = {
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "input_image": "input_image_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
    "web_search": "web_searches_kcount",
    "request": "requests_kcount",
}
"""Our field, and the library's."""
SAID = frozenset({"service_tier", "speed"})
"""What a request says, as far as it decides on prices here."""
_bytes = msgspec.json.Encoder().encode


def _encode(value: object) -> bytes:
    """Without what is empty at the end of an array, and without `.0`."""
    return _bytes(value).replace(b",[]]", b"]").replace(b".0]", b"]").replace(b".0,", b",")


def file(*, today: str) -> bytes:
    """The whole list, a model a line."""
    package = distribution("genai-prices")
    licence = next(path for path in package.files or () if path.name == "LICENSE").read_text()
    head = {"source": SOURCE, "version": package.version, "date": today, "licence": licence}
    services = b",\n".join(_service(provider) for provider in get_snapshot().providers)
    return _encode(head)[:-1] + b',"services":[\n' + services + b"]}\n"


def _service(provider: Provider) -> bytes:
    others: list[str] = provider.fallback_model_providers or []
    head: dict[str, object] = {"id": provider.id, "url": provider.api_pattern, "others": others}
    models = b",\n".join(_encode(model_of(model)) for model in provider.models)
    return _encode(head)[:-1] + b',"models":[\n' + models + b"]}"


def model_of(model: ModelInfo) -> PricedModel:
    """One model, as far as our counts go."""
    if isinstance(model.prices, ModelPrice):
        periods = [Period(_prices(model.prices))]
    else:
        periods = [_period(each.prices, each.constraint) for each in model.prices]
    tiers = [_variant(each) for each in model.price_variants or () if set(each.when) <= SAID]
    return PricedModel(model.id, _clause(model.match), tuple(periods), tuple(tiers))


def _variant(variant: PriceVariant) -> Period:
    return msgspec.structs.replace(_period(variant.prices, variant.constraint), when=variant.when)


def _clause(match: MatchLogic) -> Clause:
    match match:
        case ClauseEquals(text):
            return Clause("equals", text.lower())
        case ClauseStartsWith(text):
            return Clause("starts", text.lower())
        case ClauseEndsWith(text):
            return Clause("ends", text.lower())
        case ClauseContains(text):
            return Clause("contains", text.lower())
        case ClauseRegex(text):
            return Clause("regex", text)
        case ClauseOr(clauses):
            return Clause("or", clauses=tuple(_clause(each) for each in clauses))
        case ClauseAnd(clauses):
            return Clause("and", clauses=tuple(_clause(each) for each in clauses))


def _period(prices: ModelPrice, constraint: StartDateConstraint | TimeOfDateConstraint | None) -> Period:
    if isinstance(constraint, StartDateConstraint):
        start = datetime.combine(constraint.start_date, time(tzinfo=UTC)).timestamp()
        return Period(_prices(prices), start=start)
    if isinstance(constraint, TimeOfDateConstraint):
        return Period(_prices(prices), daily=(_second(constraint.start_time), _second(constraint.end_time)))
    return Period(_prices(prices))


def _second(clock: time) -> int:
    """The second of the day in UTC; the library takes a time without a zone for UTC."""
    aware = clock if clock.tzinfo is not None else clock.replace(tzinfo=UTC)
    utc = datetime.combine(date(1970, 1, 2), aware).astimezone(UTC)
    return utc.hour * 3600 + utc.minute * 60 + utc.second


def _prices(prices: ModelPrice) -> PriceRow:
    return PriceRow(**{ours: _price(getattr(prices, theirs)) for ours, theirs in UNITS.items()})


def _price(price: Decimal | TieredPrices | None) -> Price | None:
    if isinstance(price, TieredPrices):
        return Price(float(price.base), tuple((tier.start, float(tier.price)) for tier in price.tiers))
    return Price(float(price)) if isinstance(price, Decimal) else None
