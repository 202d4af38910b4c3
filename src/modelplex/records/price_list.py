"""The price list that comes with this package: `prices.json`, looked up by service and model.

`make prices` writes the file from genai-prices (https://github.com/pydantic/genai-prices), whose
rules of matching are followed here. This module reads it at the first look-up and never again. It
knows no gateway and no network.
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
    """Which model's price. `service` is the list's id of the service, or None where `url` (the base
    URL) is to tell it.
    """

    model: str
    service: str | None = None
    url: str | None = None


class Price(msgspec.Struct, frozen=True, array_like=True):
    """US dollars a piece. `tiers` are (tokens, price), rising: the last one whose tokens the whole
    input exceeds is the price of every piece.
    """

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, input_tokens: int) -> float:
        price = self.base
        for start, dearer in self.tiers:
            if input_tokens > start:
                price = dearer
        return price

    def per_piece(self, pieces: float) -> Price:
        """The price of one, where this is the price of so many."""
        return Price(self.base / pieces, tuple((start, dearer / pieces) for start, dearer in self.tiers))


class PriceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the counts of our Usage cost, and each request. None where there is no price of its own
    for it. In the file tokens are priced by the million, the last two by the thousand.
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
        """Of one piece, where these are by the million and the thousand."""
        return PriceRow(
            **{
                name: price.per_piece(PER_THOUSAND if name in {"web_search", "request"} else PER_MILLION)
                for name in self.__struct_fields__
                if (price := getattr(self, name)) is not None
            }
        )


class Period(msgspec.Struct, frozen=True, omit_defaults=True):
    """When prices hold: from `start` (Unix seconds) on, or each day (UTC) between two seconds of
    the day, which may span midnight.
    """

    prices: PriceRow
    start: float | None = None
    daily: tuple[int, int] | None = None
    when: dict[str, str] = {}
    """What the request must say for these prices, such as a service tier; only in `Table.tiers`."""

    def applies(self, at: float) -> bool:
        if self.start is not None:
            return at >= self.start
        if self.daily is not None:
            begin, end = self.daily
            second = at % 86_400
            return second >= begin or second < end if end < begin else begin <= second < end
        return True


class PriceTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model's prices. Of `periods` the last that holds counts, and the first where none does.
    Of `tiers` the first that holds, key by key.
    """

    service: str
    model: str
    periods: tuple[Period, ...]
    tiers: tuple[Period, ...] = ()


class Clause(msgspec.Struct, frozen=True, array_like=True):
    """Whether a name is meant: `kind` is "equals", "starts", "ends", "contains" or "regex" with a
    text, "or" or "and" with clauses.
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
    """A line of the file."""

    id: str
    match: Clause
    periods: tuple[Period, ...]
    tiers: tuple[Period, ...] = ()


class _Matched(msgspec.Struct):
    """The same, its prices unread."""

    id: str
    match: Clause
    periods: msgspec.Raw
    tiers: msgspec.Raw = msgspec.Raw(b"[]")


class PricedService(msgspec.Struct, frozen=True):
    """`url` is a regular expression that the base URL begins with; `others` are services whose
    models this one sells too.
    """

    id: str
    url: str
    others: tuple[str, ...] = ()
    models: msgspec.Raw = msgspec.Raw(b"[]")


class PriceFile(msgspec.Struct, frozen=True):
    """Where the list is from, and the list. `licence` is that of the source."""

    source: str
    version: str
    date: str
    licence: str
    services: tuple[PricedService, ...]


_decode = msgspec.json.Decoder(PriceFile).decode
_models = msgspec.json.Decoder(list[_Matched]).decode
_periods = msgspec.json.Decoder(tuple[Period, ...]).decode
_compact_date = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class PriceList:
    """One file of prices. Of a service's models nothing is kept: a look-up reads them again, which
    takes a millisecond or two, and whoever asks remembers the answer.
    """

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    @cached_property
    def file(self) -> PriceFile:
        return _decode(self._path.read_bytes())

    def find(self, question: PriceQuery) -> PriceTable | None:
        """The prices of a model, None where the service or the model is not listed."""
        service = self._service(question)
        if service is None:
            return None
        name = question.model.lower()
        for spelled in dict.fromkeys((name, _compact_date.sub(_dashed, name))):
            for seller in (service, *self._others(service)):
                if (found := _find(seller, spelled)) is not None:
                    # What a seller of another's models charges for a tier is not known.
                    return found if seller is service else msgspec.structs.replace(found, tiers=())
        return None

    def has_service(self, question: PriceQuery) -> bool:
        """Whether the service of this question is listed."""
        return self._service(question) is not None

    def _service(self, question: PriceQuery) -> PricedService | None:
        for service in self.file.services:
            if question.service is not None:
                if service.id == question.service:
                    return service
            elif question.url is not None and re.match(service.url, question.url):
                return service
        return None

    def _others(self, service: PricedService) -> Iterator[PricedService]:
        for name in service.others:
            yield from (each for each in self.file.services if each.id == name)


@lru_cache(maxsize=1)
def bundled() -> PriceList:
    """The list of this package."""
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
    """OpenRouter and LiteLLM write dates as `-20251211`, most services as `-2025-12-11`."""
    year, month, day = (int(found.group(n)) for n in (2, 3, 4))
    try:
        date(year, month, day)
    except ValueError:
        return found.group(0)
    return f"{found.group(1)}{year:04d}-{month:02d}-{day:02d}"


def fixed_prices(own: Mapping[str, float], *, service: str, model: str) -> PriceTable:
    """A table of prices that do not change: dollars per million tokens, by the names of Prices."""
    prices = PriceRow(**{name: Price(price) for name, price in own.items()})
    return PriceTable(service, model, (Period(prices.per_piece()),))
