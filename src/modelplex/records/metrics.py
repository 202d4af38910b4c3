"""Counts requests and tool calls, and renders the counts in Prometheus' text format.

`started` is called as a request arrives, and `record` with its Record.

Names are those of OpenTelemetry's GenAI conventions where one exists
(https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai), in the form that they
take in Prometheus; the others begin with `modelplex_`. docs/reference/metrics.md lists them.

Counting is plain arithmetic in tables of ours, on the event loop's thread and without a lock (about
2 us a Record); prometheus-client is imported when the text is rendered. `render`
may run in another thread, which it should where there are many series: it reads copies.

Every label's values are bounded: only models that served are named, and above SERIES_LIMIT and
CODES_LIMIT new ones are counted as `_OTHER`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal

import msgspec

from modelplex.core.events import Usage
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

SERIES_LIMIT = 500
"""Combinations of provider, model and endpoint. Each is some 100 lines of text and 4 KB here."""

CODES_LIMIT = 64
"""Error codes. Ours are about twenty; providers and policies may add theirs."""

OTHER = "_OTHER"
"""OpenTelemetry's word for a value that is not distinguished."""

DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Both as the conventions advise."""

OVERHEAD_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Our own time is a fraction of a millisecond where nothing is translated; half a second would be a
fault.
"""

OPERATIONS = {
    "chat/completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "rerank": "retrieval",
}
"""`gen_ai.operation.name` of each endpoint; the others are named by their path."""

BreakerState = Literal["closed", "half_open", "open"]

_BREAKER_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class Breaker(msgspec.Struct, frozen=True):
    """One breaker's state, of the key with this index at this provider; `key` is None for all of
    its keys, `model` and `endpoint` are empty for all of them. `caller` is whom alone it concerns,
    empty for everybody.
    """

    provider: str
    key: int | None
    state: BreakerState
    model: str = ""
    endpoint: str = ""
    caller: str = ""


class Histogram:
    """Counts by size. `add` is all that happens on the way of a call."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Prometheus' cumulated buckets, from one copy, so that they are whole though counting goes
        on.
        """
        counts = self.counts.copy()
        rows: list[tuple[str, float]] = []
        sum_so_far = 0
        for bound, count in zip((*map(_bound, self.bounds), "+Inf"), counts, strict=True):
            sum_so_far += count
            rows.append((bound, sum_so_far))
        return rows


def _bound(bound: float) -> str:
    return repr(float(bound))


class _Series:
    """What is counted of one provider's model at one endpoint."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cost",
        "durations",
        "first",
        "inputs",
        "outputs",
        "overhead",
        "tokens",
        "unpriced",
    )

    def __init__(self) -> None:
        self.durations: dict[str, Histogram] = {}
        self.first = Histogram(DURATION_BUCKETS)
        self.overhead = Histogram(OVERHEAD_BUCKETS)
        self.inputs = Histogram(TOKEN_BUCKETS)
        self.outputs = Histogram(TOKEN_BUCKETS)
        self.tokens = [0, 0, 0, 0, 0]
        self.cost = 0.0
        self.unpriced = 0
        self.bytes_in = 0
        self.bytes_out = 0


_Key = tuple[str, str, str]
_ToolKey = tuple[str, str, str]
"""Server, method, tool."""


class _AgentSeries:
    """What is counted of one agent."""

    __slots__ = ("cost", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.tokens_in = 0
        self.tokens_out = 0
        self.cost = 0.0


class _ToolSeries:
    """What is counted of one server's tool."""

    __slots__ = ("bytes_in", "bytes_out", "durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        self.durations = Histogram(DURATION_BUCKETS)
        self.bytes_in = 0
        self.bytes_out = 0


_KINDS = frozenset({"tcp", "unix", "vsock"})


def _count_tokens(series: _Series, usage: Usage, cost: float | None) -> None:
    tokens = series.tokens
    tokens[0] += usage.input
    tokens[1] += usage.output
    tokens[2] += usage.cache_read
    tokens[3] += usage.cache_write
    tokens[4] += usage.reasoning
    if cost is None:
        series.unpriced += 1
    else:
        series.cost += cost


class Metrics:
    """`breakers` and `lost` are asked whenever the text is rendered: the breakers as they stand,
    and log lines lost, by reason.
    """

    def __init__(
        self,
        *,
        breakers: Callable[[], Iterable[Breaker]] = tuple,
        lost_lines: Callable[[], Mapping[str, int]] = dict,
        omitted_entries: Callable[[], Mapping[str, int]] = dict,
        version: str = "",
    ) -> None:
        self.breakers = breakers
        self.lost_lines = lost_lines
        self.omitted_entries = omitted_entries
        self._version = version
        self._series: dict[_Key, _Series] = {}
        self._requests: dict[tuple[str, str, str, str, str, str, str], int] = {}
        self._agents: dict[str, _AgentSeries] = {}
        self._errors: dict[tuple[str, str, str, str], int] = {}
        self._attempts: dict[tuple[str, str, str], int] = {}
        self._flying: dict[str, int] = {}
        self._codes: dict[str, str] = {}
        self._tools: dict[_ToolKey, _ToolSeries] = {}

    def __repr__(self) -> str:
        calls = sum(self._requests.values())
        return f"<Metrics {calls} calls, {sum(self._flying.values())} in flight, {len(self._series)} series>"

    def started(self, listener: str) -> None:
        """A request has come in. Each `started` is followed by one `record` of a Record with the
        same listener.
        """
        kind = listener_kind(listener)
        self._flying[kind] = self._flying.get(kind, 0) + 1

    def record(self, record: Record | ToolRecord, /) -> None:
        """Count a request or a tool call that is over."""
        if isinstance(record, ToolRecord):
            self._count_tool(record)
        else:
            self._count_request(record)

    def _count_request(self, record: Record) -> None:
        kind = listener_kind(record.listener)
        self._flying[kind] = self._flying.get(kind, 0) - 1
        provider = record.provider
        # A name that nobody serves is the client's invention, of which there is no end.
        model = record.model if provider else ""
        key = (provider, model, record.endpoint)
        key, series = self._series_of(key)
        provider, model, _ = key
        requests = (*key, kind, record.agent, record.outcome, _class(record.status))
        self._requests[requests] = self._requests.get(requests, 0) + 1
        code = ""
        if record.outcome != "ok":
            code = self._code(record.code or record.outcome)
            error = (provider, model, record.blame or "gateway", code)
            self._errors[error] = self._errors.get(error, 0) + 1
        self._count(series, record, code)
        if record.agent:
            self._count_agent(record)
        for attempt in record.attempts:
            row = (
                attempt.provider,
                attempt.model if attempt.model == record.model else model,
                self._code(attempt.outcome),
            )
            self._attempts[row] = self._attempts.get(row, 0) + 1
        for attempt in record.attempts[:-1]:
            if attempt.usage is not None:
                _, series = self._series_of((attempt.provider, attempt.model, record.endpoint))
                _count_tokens(series, attempt.usage, attempt.cost)

    def _count_tool(self, call: ToolRecord) -> None:
        """Only tools that a server lists are named: a name that nobody lists
        is the client's invention, and URIs have no end.
        """
        key = (call.server, call.method, call.tool if call.definition and call.method in _NAMED else "")
        series = self._tools.get(key)
        if series is None:
            if len(self._tools) >= SERIES_LIMIT:
                key = (OTHER, OTHER, OTHER)
            series = self._tools.setdefault(key, _ToolSeries())
        reason = "" if call.outcome == "ok" else self._code(call.reason or call.outcome)
        outcome = (call.outcome, reason)
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        series.durations.add(call.seconds)
        series.bytes_in += call.bytes_in
        series.bytes_out += call.bytes_out

    def _count(self, series: _Series, record: Record, code: str) -> None:
        times = record.times
        duration = series.durations.get(code)
        if duration is None:
            duration = series.durations[code] = Histogram(DURATION_BUCKETS)
        duration.add(times.total)
        if record.stream and times.first_output is not None:
            series.first.add(times.first_output)
        if record.attempts:
            series.overhead.add(times.overhead)
        series.bytes_in += record.bytes_in
        series.bytes_out += record.bytes_out
        usage = record.usage
        if usage is None:
            return
        _count_tokens(series, usage, record.cost)
        series.inputs.add(usage.input)
        series.outputs.add(usage.output)

    def _count_agent(self, record: Record) -> None:
        """Agents' names are the config's, so that there are never more than it had."""
        series = self._agents.get(record.agent)
        if series is None:
            series = self._agents.setdefault(record.agent, _AgentSeries())
        taken = [(one.usage, one.cost) for one in record.attempts[:-1]] + [(record.usage, record.cost)]
        for usage, cost in taken:
            if usage is not None:
                series.tokens_in += usage.input
                series.tokens_out += usage.output
            series.cost += cost or 0.0

    def _series_of(self, key: _Key) -> tuple[_Key, _Series]:
        series = self._series.get(key)
        if series is not None:
            return key, series
        if len(self._series) >= SERIES_LIMIT:
            key = (OTHER, OTHER, OTHER)
        return key, self._series.setdefault(key, _Series())

    def _code(self, code: str) -> str:
        known = self._codes.get(code)
        if known is None:
            if len(self._codes) >= CODES_LIMIT:
                return OTHER
            known = self._codes[code] = code
        return known

    def render(self) -> bytes:
        """The text, of the type CONTENT_TYPE. About 8 us a line: with many series, not on the event
        loop's thread.
        """
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_collector(self._families))
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    # --- the text ---------------------------------------------------------------------------------

    def _families(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        build = GaugeMetricFamily("modelplex_build_info", "The version that runs.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        flying = GaugeMetricFamily(
            "modelplex_in_flight", "Requests that are being answered.", labels=["listener"]
        )
        for kind, count in list(self._flying.items()):
            flying.add_metric([kind], count)
        yield flying
        breakers = GaugeMetricFamily(
            "modelplex_breaker_state",
            "0 closed, 1 half open, 2 open: others are asked first.",
            labels=["provider", "key", "model", "endpoint", "caller"],
        )
        for breaker in islice(self.breakers(), SERIES_LIMIT):
            key = "" if breaker.key is None else str(breaker.key)
            labels = [breaker.provider, key, breaker.model, breaker.endpoint, breaker.caller]
            breakers.add_metric(labels, _BREAKER_VALUES[breaker.state])
        yield breakers
        lost = CounterMetricFamily(
            "modelplex_log_lines_lost", "Log lines that were not written.", labels=["reason"]
        )
        for reason, lines in self.lost_lines().items():
            lost.add_metric([reason], lines)
        yield lost
        left_out = GaugeMetricFamily(
            "modelplex_tool_entries_left_out",
            "Entries of a tool server's lists that are not listed, since clients would refuse the list.",
            labels=["server"],
        )
        for server, entries in self.omitted_entries().items():
            left_out.add_metric([server], entries)
        yield left_out
        for name, help_text, labels, rows in (
            (
                "modelplex_requests",
                "Requests that ended, however they did.",
                ["provider", "model", "endpoint", "listener", "agent", "outcome", "status"],
                self._requests,
            ),
            (
                "modelplex_errors",
                "Requests that failed, and whose fault it was.",
                ["provider", "model", "blame", "code"],
                self._errors,
            ),
            (
                "modelplex_attempts",
                "Tries at providers; `outcome` is ok or an error code.",
                ["provider", "model", "outcome"],
                self._attempts,
            ),
        ):
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for values, number in list(rows.items()):
                counter.add_metric(values, number)
            yield counter
        series = list(self._series.items())
        yield from _counters(series)
        yield from _histograms(series)
        yield from _of_agents(list(self._agents.items()))
        yield from _of_tools(list(self._tools.items()))


def listener_kind(listener: str) -> str:
    """What a listener's name begins with: "tcp", "unix" or "vsock"; "" where it is none
    of these.
    """
    kind = listener.partition(":")[0]
    return kind if kind in _KINDS else ""


_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


def _class(status: int) -> str:
    return _CLASSES.get(status // 100, "none")


_MODELS = ["provider", "model", "endpoint"]
_GEN_AI = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]

_TOKENS = (
    ("input_tokens", "Input tokens, cached ones included."),
    ("output_tokens", "Output tokens, reasoning included."),
    ("cache_read_input_tokens", "Input tokens that a cache served."),
    ("cache_write_input_tokens", "Input tokens that were put into a cache."),
    ("reasoning_output_tokens", "Output tokens that were reasoning."),
)
"""In the order of `_Series.tokens`."""


def _gen_ai(key: _Key) -> tuple[str, str, str]:
    provider, model, endpoint = key
    return OPERATIONS.get(endpoint, endpoint), provider, model


def _by_operation(series: list[tuple[_Key, _Series]]) -> dict[tuple[str, str, str], list[_Series]]:
    """Endpoints that are the same operation are one series under the conventions' names."""
    groups: dict[tuple[str, str, str], list[_Series]] = {}
    for key, each in series:
        groups.setdefault(_gen_ai(key), []).append(each)
    return groups


def _counters(series: list[tuple[_Key, _Series]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for index, (name, help_text) in enumerate(_TOKENS):
        tokens = CounterMetricFamily(
            f"gen_ai_client_inference_usage_{name}", help_text, labels=[*_GEN_AI, "gen_ai_token_modality"]
        )
        for labels, group in _by_operation(series).items():
            # Usage does not distinguish text from image tokens; the conventions' word
            # for that is "unknown".
            tokens.add_metric([*labels, "unknown"], sum(each.tokens[index] for each in group))
        yield tokens
    cost = CounterMetricFamily(
        "modelplex_cost_usd", "What calls cost, where the price is known.", labels=_MODELS
    )
    unpriced = CounterMetricFamily(
        "modelplex_unpriced_calls", "Calls with tokens and no known price.", labels=_MODELS
    )
    received = CounterMetricFamily("modelplex_request_bytes", "Bytes of request bodies.", labels=_MODELS)
    sent = CounterMetricFamily("modelplex_response_bytes", "Bytes of response bodies.", labels=_MODELS)
    for key, each in series:
        cost.add_metric(key, each.cost)
        unpriced.add_metric(key, each.unpriced)
        received.add_metric(key, each.bytes_in)
        sent.add_metric(key, each.bytes_out)
    yield from (cost, unpriced, received, sent)


def _histograms(series: list[tuple[_Key, _Series]]) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    durations = HistogramMetricFamily(
        "gen_ai_client_operation_duration_seconds",
        "From the request's head to the answer's last byte.",
        labels=[*_GEN_AI, "error_type"],
    )
    first = HistogramMetricFamily(
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "Of streamed answers: from the request's head to the first output byte that was sent on.",
        labels=_GEN_AI,
    )
    tokens = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens of one call.", labels=[*_GEN_AI, "gen_ai_token_type"]
    )
    for labels, group in _by_operation(series).items():
        for code in sorted({code for each in group for code in list(each.durations)}):
            _add(
                durations, [*labels, code], [each.durations[code] for each in group if code in each.durations]
            )
        _add(first, labels, [each.first for each in group])
        _add(tokens, [*labels, "input"], [each.inputs for each in group])
        _add(tokens, [*labels, "output"], [each.outputs for each in group])
    overhead = HistogramMetricFamily(
        "modelplex_overhead_seconds", "Our own time until the upstream request left.", labels=_MODELS
    )
    for key, each in series:
        _add(overhead, key, [each.overhead])
    yield from (durations, first, tokens, overhead)


def _of_agents(series: list[tuple[str, _AgentSeries]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    tokens = CounterMetricFamily(
        "modelplex_agent_tokens", "Tokens of an agent's calls.", labels=["agent", "gen_ai_token_type"]
    )
    cost = CounterMetricFamily(
        "modelplex_agent_cost_usd", "What an agent's calls cost, where the price is known.", labels=["agent"]
    )
    for agent, each in series:
        tokens.add_metric([agent, "input"], each.tokens_in)
        tokens.add_metric([agent, "output"], each.tokens_out)
        cost.add_metric([agent], each.cost)
    yield from (tokens, cost)


_NAMED = frozenset({"tools/call", "prompts/get"})
"""Methods whose names come from a list, so that they have an end."""
_TOOL_LABELS = ["server", "method", "tool"]


def _of_tools(series: list[tuple[_ToolKey, _ToolSeries]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    calls = CounterMetricFamily(
        "modelplex_tool_calls",
        "Calls of tools, prompts and resources that ended, however they did.",
        labels=[*_TOOL_LABELS, "outcome", "reason"],
    )
    received = CounterMetricFamily(
        "modelplex_tool_request_bytes", "Bytes of tool calls' arguments.", labels=_TOOL_LABELS
    )
    sent = CounterMetricFamily(
        "modelplex_tool_response_bytes", "Bytes of tool calls' results.", labels=_TOOL_LABELS
    )
    durations = HistogramMetricFamily(
        "modelplex_tool_call_duration_seconds",
        "From a tool call's arrival to its result.",
        labels=_TOOL_LABELS,
    )
    for key, each in series:
        for (outcome, reason), number in list(each.outcomes.items()):
            calls.add_metric([*key, outcome, reason], number)
        received.add_metric(key, each.bytes_in)
        sent.add_metric(key, each.bytes_out)
        _add(durations, key, [each.durations])
    yield from (calls, received, sent, durations)


def _add(family: HistogramMetricFamily, labels: Sequence[str], parts: Sequence[Histogram]) -> None:
    """One histogram of the parts together, left out where it is empty."""
    columns = [part.buckets() for part in parts]
    buckets = [(cells[0][0], sum(count for _, count in cells)) for cells in zip(*columns, strict=True)]
    if buckets[-1][1]:
        family.add_metric(labels, buckets, sum(part.total for part in parts))


def _collector(collect: Callable[[], Iterable[Metric]]) -> Collector:
    from prometheus_client.registry import Collector

    class Tables(Collector):
        def collect(self) -> Iterable[Metric]:
            return collect()

    return Tables()
