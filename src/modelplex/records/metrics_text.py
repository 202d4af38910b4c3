"""Renders metrics in Prometheus' text format. It may run in another thread: it reads copies.

`metrics` imports this module when the text is first requested, since prometheus_client is slow to
import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from modelplex.records.metrics import (
    SERIES_LIMIT,
    Histogram,
    Metrics,
    ModelKey,
    ModelSeries,
    SharedCounts,
    TelemetryCounts,
    ToolKey,
    ToolSeries,
)
from modelplex.records.operations import EMBEDDINGS, INFERENCE, operation_of

Rows = Iterable[tuple[Sequence[str], float]]
"""Label values, and the number."""
Operation = tuple[str, str, str, str]
"""Operation, `gen_ai.provider.name`, model, and the provider's name in the config."""

_BREAKER_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_MODEL_LABELS = ("provider", "model", "endpoint")
_OLD_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
"""`gen_ai_provider_name` was the provider's name in the config."""
_OPERATION_LABELS = (*_OLD_LABELS, "provider")
_TOOL_LABELS = ("server", "method", "tool")
_TOKENS = (
    ("input_tokens", "Input tokens, cached ones included."),
    ("output_tokens", "Output tokens, reasoning included."),
    ("cache_read_input_tokens", "Input tokens read from a cache."),
    ("cache_write_input_tokens", "Input tokens written to a cache."),
    ("reasoning_output_tokens", "Output tokens of reasoning."),
)
"""In the order of `ModelSeries.tokens`."""
_MODEL_COUNTERS = (
    ("modelplex_cost_usd", "Cost of calls whose price is known.", "cost"),
    ("modelplex_unpriced_calls", "Calls with tokens and no known price.", "unpriced"),
    ("modelplex_request_bytes", "Bytes of request bodies.", "bytes_in"),
    ("modelplex_response_bytes", "Bytes of response bodies.", "bytes_out"),
)
"""Name, help, and attribute of ModelSeries."""


def render(metrics: Metrics) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Tables(metrics))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Tables(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield from _process_families(metrics)
        if metrics.telemetry is not None:
            yield from _telemetry_families(metrics.telemetry)
        if (shared := metrics.shared()) is not None:
            yield from _shared_families(shared)
        yield from _request_families(metrics)
        series = list(metrics.series.items())
        groups = _by_operation(series, metrics.otel_names)
        yield from _counters(series, groups)
        yield from _histograms(groups)
        yield from _old_histograms(groups)
        yield _overhead(series)
        yield from _agent_families(metrics)
        yield from _policy_families(metrics)
        yield from _tool_families(list(metrics.tools.items()))


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _by_label(counts: Mapping[str, int]) -> Rows:
    return [((label,), count) for label, count in list(counts.items())]


def _process_families(metrics: Metrics) -> Iterator[Metric]:
    yield _gauge("modelplex_build_info", "The running version.", ["version"], [((metrics.version,), 1)])
    yield _gauge("modelplex_in_flight", "Requests in progress.", ["listener"], _by_label(metrics.in_flight))
    yield _gauge(
        "modelplex_breaker_state",
        "0 closed, 1 half open, 2 open: others are tried first.",
        ["provider", "key", "model", "endpoint", "caller"],
        [
            (
                (one.provider, "" if one.key is None else str(one.key), one.model, one.endpoint, one.caller),
                _BREAKER_VALUES[one.state],
            )
            for one in islice(metrics.breakers(), SERIES_LIMIT)
        ],
    )
    yield _counter(
        "modelplex_log_lines_lost",
        "Log lines that were not written.",
        ["reason"],
        _by_label(metrics.lost_lines()),
    )
    yield _counter(
        "modelplex_refused_requests",
        "Requests that were refused before they were read: no valid HTTP, too slow, too many connections.",
        ["code"],
        _by_label(metrics.refused_requests),
    )
    store = metrics.record_store
    yield _counter(
        "modelplex_records_lost",
        "Calls that are not in the record store, or not with their bodies.",
        ["reason"],
        _by_label(store.lost() if store is not None else {}),
    )
    waiting = store.waiting if store is not None else 0
    yield _gauge("modelplex_records_waiting", "Calls that wait to be stored.", [], [((), waiting)])
    failing = int(store is not None and store.is_failing())
    yield _gauge("modelplex_record_store_failing", "1 while calls cannot be stored.", [], [((), failing)])
    yield _gauge(
        "modelplex_tool_entries_left_out",
        "Entries of a tool server's lists that are not listed, since clients would reject the list.",
        ["server"],
        _by_label(metrics.omitted_entries()),
    )


def _shared_families(shared: SharedCounts) -> Iterator[Metric]:
    yield _gauge(
        "modelplex_shared_limits_away",
        "1 while the engine that counts the limits of several gateways does not answer.",
        [],
        [((), int(shared.is_away()))],
    )
    yield _counter(
        "modelplex_shared_limits_requests",
        "Requests of agents whose limits hold over several gateways.",
        ["outcome"],
        _by_label(shared.counts()),
    )


def _telemetry_families(telemetry: TelemetryCounts) -> Iterator[Metric]:
    yield _counter(
        "modelplex_otel_spans",
        "Spans of the gateway that the collector took or not, and calls that are no spans for lack of room.",
        ["outcome"],
        _by_label(telemetry.spans()),
    )
    yield _counter(
        "modelplex_agent_telemetry_requests",
        "Requests with telemetry of agents, and what became of them.",
        ["agent", "signal", "outcome"],
        list(telemetry.requests().items()),
    )
    yield _counter(
        "modelplex_agent_telemetry_passed_on",
        "Accepted requests with telemetry of agents that were kept, relayed or lost.",
        ["outcome"],
        _by_label(telemetry.passed_on()),
    )


def _request_families(metrics: Metrics) -> Iterator[Metric]:
    yield _counter(
        "modelplex_requests",
        "Requests that ended, with any outcome.",
        ["provider", "model", "endpoint", "listener", "agent", "outcome", "status"],
        list(metrics.requests.items()),
    )
    yield _counter(
        "modelplex_errors",
        "Requests that failed, and who is to blame.",
        ["provider", "model", "blame", "code"],
        list(metrics.errors.items()),
    )
    yield _counter(
        "modelplex_attempts",
        "Attempts at providers; `outcome` is ok or an error code.",
        ["provider", "model", "outcome"],
        list(metrics.attempts.items()),
    )


def _by_operation(
    series: list[tuple[ModelKey, ModelSeries]], otel_names: Mapping[str, str]
) -> dict[Operation, list[ModelSeries]]:
    """Endpoints of the same operation are one series under the conventions' names."""
    groups: dict[Operation, list[ModelSeries]] = {}
    for (provider, model, endpoint), each in series:
        labels = (operation_of(endpoint), otel_names.get(provider, provider), model, provider)
        groups.setdefault(labels, []).append(each)
    return groups


def _counters(
    series: list[tuple[ModelKey, ModelSeries]], groups: Mapping[Operation, list[ModelSeries]]
) -> Iterator[Metric]:
    for index, (name, text) in enumerate(_TOKENS):
        yield _counter(
            f"gen_ai_client_inference_usage_{name}",
            text,
            [*_OPERATION_LABELS, "gen_ai_token_modality"],
            # Usage does not distinguish text from image tokens: "unknown" in the conventions.
            (
                ((*labels, "unknown"), sum(each.tokens[index] for each in group))
                for labels, group in groups.items()
            ),
        )
    for name, text, attribute in _MODEL_COUNTERS:
        read = attrgetter(attribute)
        yield _counter(name, text, _MODEL_LABELS, ((key, read(each)) for key, each in series))


_DURATION_TEXT = "From the head of a request to the last byte of its response."
_FIRST_TEXT = "Of streamed responses: from the head of a request to the first output byte."


def _histograms(groups: Mapping[Operation, list[ModelSeries]]) -> Iterator[Metric]:
    """What inference, embeddings and the other operations are measured by."""
    failed = [*_OPERATION_LABELS, "error_type"]
    inference = HistogramMetricFamily(
        "gen_ai_client_inference_duration_seconds", _DURATION_TEXT, labels=failed
    )
    embeddings = HistogramMetricFamily(
        "gen_ai_client_embeddings_duration_seconds", _DURATION_TEXT, labels=failed
    )
    first = HistogramMetricFamily(
        "gen_ai_client_inference_time_to_first_chunk_seconds", _FIRST_TEXT, labels=_OPERATION_LABELS
    )
    tokens_in = HistogramMetricFamily(
        "gen_ai_client_inference_operation_input_tokens",
        "Input tokens of one call, cached ones included.",
        labels=_OPERATION_LABELS,
    )
    tokens_out = HistogramMetricFamily(
        "gen_ai_client_inference_operation_output_tokens",
        "Output tokens of one call, reasoning included.",
        labels=_OPERATION_LABELS,
    )
    embedded = HistogramMetricFamily(
        "gen_ai_client_embeddings_operation_input_tokens",
        "Input tokens of one call.",
        labels=_OPERATION_LABELS,
    )
    for labels, group in groups.items():
        if labels[0] in INFERENCE:
            _add_durations(inference, labels, group)
            _add(first, labels, [each.first_output for each in group])
            _add(tokens_in, labels, [each.input_tokens for each in group])
            _add(tokens_out, labels, [each.output_tokens for each in group])
        elif labels[0] == EMBEDDINGS:
            _add_durations(embeddings, labels, group)
            _add(embedded, labels, [each.input_tokens for each in group])
    yield from (inference, first, tokens_in, tokens_out, embeddings, embedded)


def _old_histograms(groups: Mapping[Operation, list[ModelSeries]]) -> Iterator[Metric]:
    """The names and labels of 0.2, for one release. `gen_ai.client.operation.duration` stays in the
    conventions for what is neither inference nor embeddings.
    """
    durations = HistogramMetricFamily(
        "gen_ai_client_operation_duration_seconds", _DURATION_TEXT, labels=[*_OLD_LABELS, "error_type"]
    )
    first = HistogramMetricFamily(
        "gen_ai_client_operation_time_to_first_chunk_seconds", _FIRST_TEXT, labels=_OLD_LABELS
    )
    tokens = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens of one call.", labels=[*_OLD_LABELS, "gen_ai_token_type"]
    )
    for (operation, _, model, provider), group in groups.items():
        labels = (operation, provider, model)
        _add_durations(durations, labels, group)
        _add(first, labels, [each.first_output for each in group])
        _add(tokens, [*labels, "input"], [each.input_tokens for each in group])
        _add(tokens, [*labels, "output"], [each.output_tokens for each in group])
    yield from (durations, first, tokens)


def _add_durations(
    family: HistogramMetricFamily, labels: Sequence[str], group: Sequence[ModelSeries]
) -> None:
    """One histogram for each error, and one for the calls without."""
    for code in sorted({code for each in group for code in list(each.durations)}):
        _add(family, [*labels, code], [each.durations[code] for each in group if code in each.durations])


def _overhead(series: list[tuple[ModelKey, ModelSeries]]) -> Metric:
    overhead = HistogramMetricFamily(
        "modelplex_overhead_seconds",
        "The gateway's own time until the upstream request.",
        labels=_MODEL_LABELS,
    )
    for key, each in series:
        _add(overhead, key, [each.overhead])
    return overhead


def _agent_families(metrics: Metrics) -> Iterator[Metric]:
    agents = list(metrics.agents.items())
    tokens = [(agent, (("input", each.tokens_in), ("output", each.tokens_out))) for agent, each in agents]
    yield _counter(
        "modelplex_agent_tokens",
        "Tokens of an agent's calls.",
        ["agent", "gen_ai_token_type"],
        (((agent, kind), count) for agent, counts in tokens for kind, count in counts),
    )
    yield _counter(
        "modelplex_agent_cost_usd",
        "Cost of an agent's calls whose price is known.",
        ["agent"],
        (((agent,), each.cost) for agent, each in agents),
    )


def _policy_families(metrics: Metrics) -> Iterator[Metric]:
    yield _counter(
        "modelplex_policy_stripped",
        "Values of requests that the sealed policy took out.",
        ["rule", "agent"],
        list(metrics.stripped.items()),
    )
    yield _counter(
        "modelplex_policy_refused",
        "Requests that the policy, a budget or a limit refused.",
        ["rule", "agent"],
        list(metrics.denied.items()),
    )
    budgets = list(islice(metrics.budgets(), SERIES_LIMIT * 4))
    labels = ["agent", "unit", "per"]
    rows = [((each.owner, each.unit, each.per), each.left) for each in budgets]
    yield _gauge("modelplex_budget_left", "What is left of a budget; 0 when it is used up.", labels, rows)
    rows = [((each.owner, each.unit, each.per), each.total) for each in budgets]
    yield _gauge("modelplex_budget", "The whole of a budget.", labels, rows)


def _tool_families(series: list[tuple[ToolKey, ToolSeries]]) -> Iterator[Metric]:
    yield _counter(
        "modelplex_tool_calls",
        "Calls of tools, prompts and resources that ended, with any outcome.",
        [*_TOOL_LABELS, "outcome", "reason"],
        (
            ((*key, *outcome), number)
            for key, each in series
            for outcome, number in list(each.outcomes.items())
        ),
    )
    yield _counter(
        "modelplex_tool_request_bytes",
        "Bytes of arguments of tool calls.",
        _TOOL_LABELS,
        ((key, each.bytes_in) for key, each in series),
    )
    yield _counter(
        "modelplex_tool_response_bytes",
        "Bytes of results of tool calls.",
        _TOOL_LABELS,
        ((key, each.bytes_out) for key, each in series),
    )
    durations = HistogramMetricFamily(
        "modelplex_tool_call_duration_seconds",
        "From the arrival of a tool call to its result.",
        labels=_TOOL_LABELS,
    )
    for key, each in series:
        _add(durations, key, [each.durations])
    yield durations


def _add(family: HistogramMetricFamily, labels: Sequence[str], parts: Sequence[Histogram]) -> None:
    """Add the sum of the parts as one histogram, unless it is empty."""
    columns = [part.buckets() for part in parts]
    buckets = [(cells[0][0], sum(count for _, count in cells)) for cells in zip(*columns, strict=True)]
    if buckets[-1][1]:
        family.add_metric(labels, buckets, sum(part.total for part in parts))
