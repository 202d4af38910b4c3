"""The price list that comes with this package: `prices.json`, looked up by service and model.

`make prices` writes the file from genai-prices (https://github.com/pydantic/genai-prices); this
module follows its rules of matching. The file is read once, at the first look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("prices.json")
PER_MILLION = 1e6
PER_THOUSAND = 1e3


class PriceQuery(msgspec.Struct, frozen=True):
    """A look-up by `service`, an id of the list, or by `url`, the base URL, if that is None."""

    model: str
    service: str | None = None
    url: str | None = None


class Price(msgspec.Struct, frozen=True, array_like=True):
    """US dollars per piece. `tiers` are (tokens, price), ascending: the last one whose tokens the
    whole input exceeds is the price of every piece.
    """

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, input_tokens: int) -> float:
        price = self.base
        for start, tier_price in self.tiers:
            if input_tokens > start:
                price = tier_price
        return price

    def per_piece(self, pieces: float) -> Price:
        """The price of one piece, if this is the price of so many."""
        return Price(self.base / pieces, tuple((start, price / pieces) for start, price in self.tiers))


class PriceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The prices of the counts of Usage, and of a request; None for a count without its own price.
    In the file tokens are priced per million, the last two per thousand.
    """

    input: Price | None = None
    cache_read: Price | None = None
    cache_write: Price | None = None
    cache_write_1h: Price | None = None
    output: Price | None = None
    reasoning: Price | None = None
    input_audio: Price | None = None
    input_image: Price | None = None
    output_audio: Price | None = None
    output_image: Price | None = None
    web_search: Price | None = None
    request: Price | None = None

    def per_piece(self) -> PriceRow:
        """The prices per piece, if these are those of the file."""
        return PriceRow(
            **{
                name: price.per_piece(PER_THOUSAND if name in {"web_search", "request"} else PER_MILLION)
                for name in self.__struct_fields__
                if (price := getattr(self, name)) is not None
            }
        )


class Period(msgspec.Struct, frozen=True, omit_defaults=True):
    """When prices apply: from `start` (Unix seconds) on, or daily (UTC) between two seconds of the
    day, which may span midnight.
    """

    prices: PriceRow
    start: float | None = None
    daily: tuple[int, int] | None = None
    when: dict[str, str] = {}
    """Members that the request must have, such as a service tier; only in `PriceTable.tiers`."""

    def applies(self, at: float) -> bool:
        if self.start is not None:
            return at >= self.start
        if self.daily is not None:
            begin, end = self.daily
            second = at % 86_400
            return second >= begin or second < end if end < begin else begin <= second < end
        return True


class PriceTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model's prices: those of the last of `periods` that applies, or of the first one if none
    does. Each price of `tiers` overrides it, the first that applies.
    """

    service: str
    model: str
    periods: tuple[Period, ...]
    tiers: tuple[Period, ...] = ()


class Clause(msgspec.Struct, frozen=True, array_like=True):
    """A condition on a name: `kind` is "equals", "starts", "ends", "contains" or "regex" with a
    text, or "or" or "and" with clauses.
    """

    kind: str
    text: str = ""
    clauses: tuple[Clause, ...] = ()

    def matches(self, name: str) -> bool:
        """`name` is in lower case."""
        match self.kind:
            case "equals":
                return name == self.text
            case "starts":
                return name.startswith(self.text)
            case "ends":
                return name.endswith(self.text)
            case "contains":
                return self.text in name
            case "regex":
                return re.search(self.text, name) is not None
            case "or":
                return any(clause.matches(name) for clause in self.clauses)
            case "and":
                return all(clause.matches(name) for clause in self.clauses)
            case _:
                raise AssertionError(self.kind)


class PricedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model in the file."""

    id: str
    match: Clause
    periods: tuple[Period, ...]
    tiers: tuple[Period, ...] = ()


class _UndecodedModel(msgspec.Struct):
    """A PricedModel whose prices are not decoded."""

    id: str
    match: Clause
    periods: msgspec.Raw
    tiers: msgspec.Raw = msgspec.Raw(b"[]")


class PricedService(msgspec.Struct, frozen=True):
    """`url` is a regular expression for the start of the base URL; `others` are services whose
    models this one sells too.
    """

    id: str
    url: str
    others: tuple[str, ...] = ()
    models: msgspec.Raw = msgspec.Raw(b"[]")


class PriceFile(msgspec.Struct, frozen=True):
    """The list and its source. `licence` is that of the source."""

    source: str
    version: str
    date: str
    licence: str
    services: tuple[PricedService, ...]


_decode = msgspec.json.Decoder(PriceFile).decode
_models = msgspec.json.Decoder(list[_UndecodedModel]).decode
_periods = msgspec.json.Decoder(tuple[Period, ...]).decode
_compact_date = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class PriceList:
    """One file of prices. A look-up decodes a service's models again, which takes a millisecond or
    two; the caller caches the result.
    """

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    @cached_property
    def file(self) -> PriceFile:
        return _decode(self._path.read_bytes())

    def find(self, query: PriceQuery) -> PriceTable | None:
        """The prices of a model; None if the service or the model is not listed."""
        service = self._service(query)
        if service is None:
            return None
        name = query.model.lower()
        for spelled in dict.fromkeys((name, _compact_date.sub(_dashed, name))):
            for seller in (service, *self._others(service)):
                if (found := _find(seller, spelled)) is not None:
                    # Tier prices of a reseller are unknown.
                    return found if seller is service else msgspec.structs.replace(found, tiers=())
        return None

    def has_service(self, query: PriceQuery) -> bool:
        """Whether the service of this query is listed."""
        return self._service(query) is not None

    def _service(self, query: PriceQuery) -> PricedService | None:
        for service in self.file.services:
            if query.service is not None:
                if service.id == query.service:
                    return service
            elif query.url is not None and re.match(service.url, query.url):
                return service
        return None

    def _others(self, service: PricedService) -> Iterator[PricedService]:
        for name in service.others:
            yield from (each for each in self.file.services if each.id == name)


@lru_cache(maxsize=1)
def bundled() -> PriceList:
    return PriceList()


def _find(service: PricedService, name: str) -> PriceTable | None:
    for model in _models(service.models):
        if model.match.matches(name):
            return PriceTable(
                service.id, model.id, _each(_periods(model.periods)), tiers=_each(_periods(model.tiers))
            )
    return None


def _each(periods: tuple[Period, ...]) -> tuple[Period, ...]:
    return tuple(msgspec.structs.replace(period, prices=period.prices.per_piece()) for period in periods)


def _dashed(found: re.Match[str]) -> str:
    """`-2025-12-11` for `-20251211`: OpenRouter and LiteLLM write dates without dashes."""
    year, month, day = (int(found.group(n)) for n in (2, 3, 4))
    try:
        date(year, month, day)
    except ValueError:
        return found.group(0)
    return f"{found.group(1)}{year:04d}-{month:02d}-{day:02d}"


def fixed_prices(own: Mapping[str, float], *, service: str, model: str) -> PriceTable:
    """A table of constant prices: dollars per million tokens, by the fields of PriceRow."""
    prices = PriceRow(**{name: Price(price) for name, price in own.items()})
    return PriceTable(service, model, (Period(prices.per_piece()),))
