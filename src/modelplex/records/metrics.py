"""Counts requests and tool calls for Prometheus; `metrics_text` renders the counts.

`started` is called when a request arrives, and `record` with its Record.

Names are those of OpenTelemetry's GenAI conventions where one exists
(https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai), as Prometheus spells
them; the others begin with `modelplex_`. docs/reference/metrics.md lists them.

Counting is plain arithmetic on the event loop, without a lock (about 2 us a Record). `render` may
run in another thread: it reads copies.

Every label has a bounded set of values: only models that served are named, and above SERIES_LIMIT
and CODES_LIMIT new values are counted as `_OTHER`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, Protocol

import msgspec

from modelplex.core.events import Usage
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.tool_call import ToolRecord

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

SERIES_LIMIT = 500
"""Combinations of provider, model and endpoint. Each takes about 200 lines of text and 4 KB: half
of them are of the older names, for one release.
"""

CODES_LIMIT = 64
"""Error codes. Modelplex has about twenty; providers add theirs."""

AGENTS_LIMIT = 2_000
"""Agents that are named. They come and go by the API; each has some ten lines of text."""

RULES_LIMIT = 4_000
"""Combinations of agent and policy rule or code."""

ATTEMPTS_LIMIT = 4_000
"""Combinations of provider, model and outcome of attempts: some outcomes of each model."""

OTHER = "_OTHER"
"""OpenTelemetry's value for what is not distinguished."""

DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Both as the conventions recommend."""

OVERHEAD_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Without translation the overhead is a fraction of a millisecond; half a second is a fault."""

BreakerState = Literal["closed", "half_open", "open"]


class Breaker(msgspec.Struct, frozen=True):
    """The state of one circuit breaker. `key` is the index of the provider's key, None for all of
    them; `model`, `endpoint` and `caller` are empty for all of them.
    """

    provider: str
    key: int | None
    state: BreakerState
    model: str = ""
    endpoint: str = ""
    caller: str = ""


class BudgetLeft(msgspec.Struct, frozen=True):
    """What is left of a budget, in its `unit`: "usd" or "tokens". `owner` is an agent."""

    owner: str
    unit: str
    per: str
    left: float
    total: float


class RecordStoreCounts(Protocol):
    """Of the record store: calls that are not in it whole, by reason; whether it cannot be written
    now; and how many wait.
    """

    @property
    def waiting(self) -> int: ...

    def lost(self) -> Mapping[str, int]: ...
    def is_failing(self) -> bool: ...


class TelemetryCounts(Protocol):
    """Of OpenTelemetry: spans by outcome, requests of agents by agent, signal and outcome, and what
    became of those that were accepted.
    """

    def spans(self) -> Mapping[str, int]: ...
    def requests(self) -> Mapping[tuple[str, str, str], int]: ...
    def passed_on(self) -> Mapping[str, int]: ...


class SharedCounts(Protocol):
    """Of the limits over several gateways: requests by outcome, and whether the engine is away."""

    def counts(self) -> Mapping[str, int]: ...
    def is_away(self) -> bool: ...


class Histogram:
    """Counts by size. Only `add` runs while a request is served."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        """Add the counts of one with the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def buckets(self) -> list[tuple[str, float]]:
        """Prometheus' cumulative buckets, consistent although counting continues."""
        counts = self.counts.copy()
        bounds = (*(repr(float(bound)) for bound in self.bounds), "+Inf")
        return list(zip(bounds, accumulate(counts), strict=True))


class ModelSeries:
    """The counts of one provider's model at one endpoint."""

    __slots__ = (
        "bytes_in", "bytes_out", "cost", "durations", "first_output", "input_tokens", "output_tokens", "overhead", "tokens", "unpriced",
    )  # fmt: skip

    def __init__(self) -> None:
        self.durations: dict[str, Histogram] = {}
        """By error code, "" for none."""
        self.first_output = Histogram(DURATION_BUCKETS)
        self.overhead = Histogram(OVERHEAD_BUCKETS)
        self.input_tokens = Histogram(TOKEN_BUCKETS)
        self.output_tokens = Histogram(TOKEN_BUCKETS)
        self.tokens = [0, 0, 0, 0, 0]
        """Input, output, cache read, cache write, reasoning."""
        self.cost = 0.0
        self.unpriced = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def add(self, other: ModelSeries) -> None:
        """Add the counts of another process."""
        for code, durations in other.durations.items():
            self.durations.setdefault(code, Histogram(DURATION_BUCKETS)).merge(durations)
        for name in ("first_output", "overhead", "input_tokens", "output_tokens"):
            getattr(self, name).merge(getattr(other, name))
        self.tokens = [mine + theirs for mine, theirs in zip(self.tokens, other.tokens, strict=True)]
        for name in ("cost", "unpriced", "bytes_in", "bytes_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_tokens(self, usage: Usage, cost: float | None) -> int:
        """Returns the input tokens."""
        tokens, given = self.tokens, usage.input
        tokens[0] += given
        tokens[1] += usage.output
        if usage.cache_read or usage.cache_write or usage.reasoning:
            tokens[2] += usage.cache_read
            tokens[3] += usage.cache_write
            tokens[4] += usage.reasoning
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost
        return given


class AgentSeries:
    """The counts of one agent."""

    __slots__ = ("cost", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.tokens_in = 0
        self.tokens_out = 0
        self.cost = 0.0


class ToolSeries:
    """The counts of one tool of a server. `outcomes` has (outcome, reason) -> calls."""

    __slots__ = ("bytes_in", "bytes_out", "durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        self.durations = Histogram(DURATION_BUCKETS)
        self.bytes_in = 0
        self.bytes_out = 0


class UsualRow(msgspec.Struct, frozen=True):
    """Where a usual call is counted: complete, at the first attempt."""

    kind: str
    request: tuple[str, str, str, str, str, str, str]
    attempt: AttemptKey
    series: ModelSeries


ROWS_LIMIT = 1024
"""Usual rows that are remembered."""
ModelKey = tuple[str, str, str]
"""Provider, model, endpoint."""
AttemptKey = tuple[str, str, str]
"""Provider, model, outcome."""
ToolKey = tuple[str, str, str]
"""Server, method, tool."""
_LISTED_METHODS = frozenset({"tools/call", "prompts/get"})
"""Methods whose names come from a server's list, so that there is a bounded number."""
_KINDS = frozenset({"tcp", "unix", "vsock"})


class Metrics:
    """The tables of counts. These functions are called when the text is rendered:

    breakers         the circuit breakers
    lost_lines       lost log lines, by reason
    omitted_entries  entries of tool servers' lists that are not listed, by server
    budgets          what is left of each budget
    record_store     what was lost of the record, and whether it fails
    telemetry        of OpenTelemetry
    shared           of the limits over several gateways
    """

    def __init__(
        self,
        *,
        breakers: Callable[[], Iterable[Breaker]] = tuple,
        lost_lines: Callable[[], Mapping[str, int]] = dict,
        omitted_entries: Callable[[], Mapping[str, int]] = dict,
        budgets: Callable[[], Iterable[BudgetLeft]] = tuple,
        record_store: RecordStoreCounts | None = None,
        telemetry: TelemetryCounts | None = None,
        shared: Callable[[], SharedCounts | None] = lambda: None,
        version: str = "",
    ) -> None:
        self.breakers = breakers
        self.lost_lines = lost_lines
        self.omitted_entries = omitted_entries
        self.budgets = budgets
        self.record_store = record_store
        self.telemetry = telemetry
        self.shared = shared
        self.version = version
        self.series: dict[ModelKey, ModelSeries] = {}
        self.requests: dict[tuple[str, str, str, str, str, str, str], int] = {}
        self.refused_requests: dict[str, int] = {}
        """Requests that did not reach the app, by code."""
        self.agents: dict[str, AgentSeries] = {}
        self.stripped: dict[tuple[str, str], int] = {}
        """Values that the policy took out, by rule and agent."""
        self.denied: dict[tuple[str, str], int] = {}
        """Requests that the policy or a limit refused, by rule, else by code, and agent."""
        self.errors: dict[tuple[str, str, str, str], int] = {}
        self.attempts: dict[AttemptKey, int] = {}
        self.in_flight: dict[str, int] = {}
        self._codes: set[str] = set()
        self.otel_names: dict[str, str] = {}
        """`gen_ai.provider.name` of each provider, by its name in the config."""
        self._agents: set[str] = set()
        self._usual: dict[tuple[str, str, str, str, str, int], UsualRow] = {}
        self.tools: dict[ToolKey, ToolSeries] = {}

    def __repr__(self) -> str:
        calls = sum(self.requests.values())
        return f"<Metrics {calls} calls, {sum(self.in_flight.values())} in flight, {len(self.series)} series>"

    def started(self, listener: str) -> None:
        """A request arrived. One `record` with the same listener follows each `started`."""
        kind = listener_kind(listener)
        self.in_flight[kind] = self.in_flight.get(kind, 0) + 1

    def record(self, record: Record | ToolRecord, /) -> None:
        if isinstance(record, ToolRecord):
            self._count_tool(record)
            return
        attempts = record.attempts
        if record.stripped:
            for each in record.stripped:
                self._count_rule(self.stripped, each.rule, record.agent)
        if record.outcome != "ok" or len(attempts) != 1 or attempts[0].outcome != "ok":
            # An estimated token count is complete, although its one attempt failed.
            self._count_any(record)
            return
        seen = (
            record.listener,
            record.provider,
            record.model,
            record.endpoint,
            record.agent,
            record.status,
        )
        row = self._usual.get(seen)
        if row is None:
            self._remember_usual(seen, record)
            self._count_any(record)
            return
        self.in_flight[row.kind] -= 1
        self.requests[row.request] += 1
        self.attempts[row.attempt] += 1
        self._count(row.series, record, "")
        if record.agent:
            self._count_agent(record)

    def _remember_usual(self, seen: tuple[str, str, str, str, str, int], record: Record) -> None:
        """Remember where such calls are counted. Called before `_count_any` counts the first."""
        if len(self._usual) >= ROWS_LIMIT:
            self._usual.clear()
        kind = listener_kind(record.listener)
        key, series = self._series_of((record.provider, record.model, record.endpoint))
        self._usual[seen] = UsualRow(
            kind,
            (*key, kind, self._agent(record.agent), record.outcome, _class(record.status)),
            self._attempt_of(record.attempts[0], record, key[1]),
            series,
        )

    def _count_any(self, record: Record) -> None:
        kind = listener_kind(record.listener)
        self.in_flight[kind] = self.in_flight.get(kind, 0) - 1
        if record.blame == "policy":
            self._count_rule(
                self.denied, record.rule or self._code(record.code or record.outcome), record.agent
            )
        provider = record.provider
        # Clients may invent any number of names that nobody serves.
        model = record.model if provider else ""
        key = (provider, model, record.endpoint)
        key, series = self._series_of(key)
        provider, model, _ = key
        requests = (*key, kind, self._agent(record.agent), record.outcome, _class(record.status))
        self.requests[requests] = self.requests.get(requests, 0) + 1
        code = ""
        if record.outcome != "ok":
            code = self._code(record.code or record.outcome)
            error = (provider, model, record.blame or "gateway", code)
            self.errors[error] = self.errors.get(error, 0) + 1
        self._count(series, record, code)
        if record.agent:
            self._count_agent(record)
        for attempt in record.attempts:
            if attempt.otel_name and len(self.otel_names) < SERIES_LIMIT:
                self.otel_names[attempt.provider] = attempt.otel_name
            row = self._attempt_of(attempt, record, model)
            self.attempts[row] = self.attempts.get(row, 0) + 1
        for attempt in record.attempts[:-1]:
            if attempt.usage is not None:
                _, series = self._series_of((attempt.provider, attempt.model, record.endpoint))
                series.add_tokens(attempt.usage, attempt.cost)

    def _count_tool(self, call: ToolRecord) -> None:
        """Only tools that a server lists are named: clients may invent any number of other names,
        and URIs are unbounded.
        """
        is_listed = call.definition and call.method in _LISTED_METHODS
        key = (call.server, call.method, call.tool if is_listed else "")
        series = self.tools.get(key)
        if series is None:
            if len(self.tools) >= SERIES_LIMIT:
                key = (OTHER, OTHER, OTHER)
            series = self.tools.setdefault(key, ToolSeries())
        reason = "" if call.outcome == "ok" else self._code(call.reason or call.outcome)
        outcome = (call.outcome, reason)
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        series.durations.add(call.seconds)
        series.bytes_in += call.bytes_in
        series.bytes_out += call.bytes_out

    def _count(self, series: ModelSeries, record: Record, code: str) -> None:
        times, usage = record.times, record.usage
        duration = series.durations.get(code)
        if duration is None:
            duration = series.durations[code] = Histogram(DURATION_BUCKETS)
        series.bytes_in += record.bytes_in
        series.bytes_out += record.bytes_out
        values: list[tuple[Histogram, float]] = [(duration, times.total)]
        if record.stream and times.first_output is not None:
            values.append((series.first_output, times.first_output))
        if record.attempts:
            values.append((series.overhead, times.overhead))
        if usage is not None:
            given = series.add_tokens(usage, record.cost)
            values += ((series.input_tokens, given), (series.output_tokens, usage.output))
        for histogram, value in values:  # `Histogram.add` without its calls
            histogram.counts[bisect_left(histogram.bounds, value)] += 1
            histogram.total += value

    def _count_agent(self, record: Record) -> None:
        series = self.agents.get(record.agent)
        if series is None:
            series = self.agents.setdefault(self._agent(record.agent), AgentSeries())
        earlier: Sequence[Record | AttemptRecord] = record.attempts[:-1]
        for taken in (*earlier, record):
            if (usage := taken.usage) is not None:
                series.tokens_in += usage.input
                series.tokens_out += usage.output
            series.cost += taken.cost or 0.0

    def _agent(self, agent: str) -> str:
        """Its name, or OTHER above AGENTS_LIMIT."""
        if not agent or agent in self._agents:
            return agent
        if len(self._agents) >= AGENTS_LIMIT:
            return OTHER
        self._agents.add(agent)
        return agent

    def _count_rule(self, counts: dict[tuple[str, str], int], rule: str, agent: str) -> None:
        key = rule, self._agent(agent)
        if key not in counts and len(counts) >= RULES_LIMIT:
            key = OTHER, OTHER
        counts[key] = counts.get(key, 0) + 1

    def _attempt_of(self, attempt: AttemptRecord, record: Record, model: str) -> AttemptKey:
        """The row of an attempt. `model` is the label of the record's model."""
        row = (
            attempt.provider,
            attempt.model if attempt.model == record.model else model,
            self._code(attempt.outcome),
        )
        if row not in self.attempts and len(self.attempts) >= ATTEMPTS_LIMIT:
            return OTHER, OTHER, OTHER
        return row

    def _series_of(self, key: ModelKey) -> tuple[ModelKey, ModelSeries]:
        series = self.series.get(key)
        if series is not None:
            return key, series
        if len(self.series) >= SERIES_LIMIT:
            key = (OTHER, OTHER, OTHER)
        return key, self.series.setdefault(key, ModelSeries())

    def _code(self, code: str) -> str:
        if code not in self._codes:
            if len(self._codes) >= CODES_LIMIT:
                return OTHER
            self._codes.add(code)
        return code

    def render(self) -> bytes:
        """The text, of the type CONTENT_TYPE. About 8 us a line: with many series, run it in a
        thread.
        """
        from modelplex.records.metrics_text import render

        return render(self)


@lru_cache(maxsize=1024)
def listener_kind(listener: str) -> str:
    """The kind that a listener's name begins with: "tcp", "unix", "vsock", or "" for any other."""
    kind = listener.partition(":")[0]
    return kind if kind in _KINDS else ""


_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


def _class(status: int) -> str:
    return _CLASSES.get(status // 100, "none")
