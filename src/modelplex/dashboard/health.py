"""Figures of the process since its start, from the tables of counts. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from modelplex.records.metrics import Histogram, Metrics

Quantiles = tuple[float | None, float | None]
"""p50 and p95."""


class ProviderFigures(msgspec.Struct, kw_only=True):
    """Of one provider, all its models together. `total` is until the last byte, `first` until the
    first output, `own` the gateway's time: p50 and p95 in seconds, None without a call.
    """

    provider: str
    calls: int = 0
    errors: int = 0
    total: Quantiles = (None, None)
    first: Quantiles = (None, None)
    own: Quantiles = (None, None)
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0
    cost: float = 0.0
    unpriced: int = 0


class ErrorCount(msgspec.Struct, frozen=True):
    blame: str
    code: str
    provider: str
    count: int


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value below which `part` of the counted values are, interpolated within its bucket. The
    last bucket has no upper bound: then it is the largest bound.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, below = part * total, 0
    for index, count in enumerate(counts):
        if count and below + count >= wanted:
            if index == len(bounds):
                return bounds[-1]
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (wanted - below) / count
        below += count
    return bounds[-1]


def merged(histograms: Iterable[Histogram]) -> tuple[Sequence[float], list[int]]:
    """Bounds and counts of several with the same bounds."""
    bounds: Sequence[float] = ()
    counts: list[int] = []
    for each in histograms:
        bounds = each.bounds
        counts = [a + b for a, b in zip(counts, each.counts, strict=True)] if counts else list(each.counts)
    return bounds, counts


def _quantiles(histograms: Iterable[Histogram]) -> Quantiles:
    bounds, counts = merged(histograms)
    return quantile(bounds, counts, 0.5), quantile(bounds, counts, 0.95)


def providers(metrics: Metrics) -> list[ProviderFigures]:
    """By provider, the most used first. Calls that no provider got are in none."""
    names = sorted({key[0] for key in metrics.series if key[0]})
    rows = [_figures(metrics, name) for name in names]
    return sorted(rows, key=lambda row: row.calls, reverse=True)


def _figures(metrics: Metrics, provider: str) -> ProviderFigures:
    series = [one for key, one in metrics.series.items() if key[0] == provider]
    row = ProviderFigures(provider=provider)
    for one in series:
        row.tokens_in += one.tokens[0]
        row.tokens_out += one.tokens[1]
        row.cached += one.tokens[2]
        row.cost += one.cost
        row.unpriced += one.unpriced
        for code, durations in one.durations.items():
            row.calls += sum(durations.counts)
            row.errors += sum(durations.counts) if code else 0
    row.total = _quantiles(one.durations[""] for one in series if "" in one.durations)
    row.first = _quantiles(one.first_output for one in series)
    row.own = _quantiles(one.overhead for one in series)
    return row


def errors(metrics: Metrics) -> list[ErrorCount]:
    """The most frequent first."""
    found = [
        ErrorCount(blame, code, provider, count)
        for (provider, _, blame, code), count in metrics.errors.items()
    ]
    summed: dict[tuple[str, str, str], int] = {}
    for each in found:
        key = (each.blame, each.code, each.provider)
        summed[key] = summed.get(key, 0) + each.count
    return sorted((ErrorCount(*key, count) for key, count in summed.items()), key=lambda e: -e.count)


def bytes_per_token(metrics: Metrics, provider: str, model: str, endpoint: str) -> float | None:
    """Of the responses of this model that have ended; None without one."""
    series = metrics.series.get((provider, model, endpoint))
    if series is None or not series.tokens[1] or not series.bytes_out:
        return None
    return series.bytes_out / series.tokens[1]
