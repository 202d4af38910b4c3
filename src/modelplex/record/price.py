"""What a call cost, in US dollars, where its price is known.

Above it stands the gateway, which asks while it makes a Record; below it the vocabulary and pricelist.py, which asks the price library in
a process of its own. It fetches nothing from any network and never blocks: a price that is not here yet is None, and is here soon.

Unknown is None and never 0. What the provider itself says that the call cost wins over every table.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from modelplex.event import Usage
from modelplex.record.pricelist import Price, Question, Table
from modelplex.record.pricelist import Prices as PriceRow

KNOWN_LIMIT = 4_096
"""Models that are remembered, about 1 KB each. Clients can make up model names that a provider accepts; the oldest are forgotten."""

ASKED_LIMIT = 256
"""Models that wait to be looked up. More are not noted; the next call of the model asks again."""

CHILD_LIMIT_S = 30.0
"""How long a look-up may take. It takes half a second; a starved machine takes many times that."""

PAUSE_S = 1.0
"""Between two look-ups, each of which takes half a second of a core: made-up model names shall not keep it busy."""

FAILURES_LIMIT = 3
"""Look-ups that may fail in a row, before it is taken that this machine cannot do them."""

# Types in the config whose service has another name in the library; every other type is tried by its own name.
_SERVICES = {
    "gemini": "google",
    "gemini-openai": "google",
    "xai": "x-ai",
    "azure-openai": "azure",
    "azure_openai": "azure",
    "moonshot": "moonshotai",
}

# Types that name a dialect which many services speak: only the address tells whose prices hold.
_DIALECTS = frozenset({"openai", "anthropic"})

# Types that run on somebody's own machine.
_OWN_MACHINE = frozenset(
    {
        "ollama",
        "demo",
        "llama.cpp",
        "llamacpp",
        "llama_cpp",
        "vllm",
        "sglang",
        "lmstudio",
        "lm-studio",
        "lm_studio",
    }
)

_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT")
"""What the child gets of our environment: where Python is, and none of the keys."""


def ask_library(questions: list[Question]) -> list[Table | None]:
    """Looks the prices up in a child process. Raises OSError, subprocess.SubprocessError or msgspec.MsgspecError."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "modelplex.record.pricelist"],
        input=msgspec.json.encode(questions),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=CHILD_LIMIT_S,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the gateway, which ends the child by itself
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=list[Table | None])


class Prices:
    """The prices of the models that were asked for so far. `ask` is replaced in tests."""

    def __init__(self, *, ask: Callable[[list[Question]], list[Table | None]] = ask_library) -> None:
        self._ask = ask
        self._known: dict[Question, Table | None] = {}
        self._asked: dict[Question, None] = {}
        self._questions: dict[tuple[str, str, str | None], Question | None] = {}
        self._changed = threading.Condition()
        self._asking = False
        self._not_before = 0.0
        self._stopped = threading.Event()
        self.failure: str | None = None
        """Why prices cannot be looked up; None while they can."""

    def __repr__(self) -> str:
        state = self.failure or ("asking" if self._asking else "idle")
        return f"<Prices {len(self._known)} known, {len(self._asked)} asked for, {state}>"

    def learn(self, provider_type: str, model: str, base_url: str | None = None) -> None:
        """Has the price looked up, if it is not known. Called as an attempt begins, so that the price is here when the answer ends."""
        question = self._question(provider_type, model, base_url)
        if question is not None and question not in self._known and question not in self._asked:
            self._want(question)

    def cost(
        self,
        provider_type: str,
        model: str,
        usage: Usage,
        base_url: str | None = None,
        *,
        tier: str | None = None,
        at: float | None = None,
    ) -> float | None:
        """US dollars, or None where that is not known (yet). Never blocks; a price that was not asked for is asked for now.

        `tier` is the service tier that the answer names ("priority", "flex"); `at` the call's time in Unix seconds, now by default.
        """
        if (told := told_cost(usage)) is not None:
            return told
        question = self._question(provider_type, model, base_url)
        if question is None or usage.estimated:
            return None
        if question not in self._known:
            self.learn(provider_type, model, base_url)
            return None
        table = self._known[question]
        return None if table is None else total(table, usage, tier=tier, at=time.time() if at is None else at)

    def settle(self, timeout: float) -> bool:
        """Waits until nothing is being looked up; False where that takes longer than `timeout` seconds. Not for an event loop."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._asking, timeout)

    def close(self) -> None:
        """No more look-ups. One that runs is left to end by itself (at most CHILD_LIMIT_S)."""
        self._stopped.set()

    def _question(self, provider_type: str, model: str, base_url: str | None) -> Question | None:
        key = (provider_type, model, base_url)
        if key in self._questions:
            return self._questions[key]
        question = whom_to_ask(provider_type, model, base_url)
        _remember(self._questions, key, question)
        return question

    def _want(self, question: Question) -> None:
        if self.failure is not None or self._stopped.is_set():
            return
        with self._changed:
            if len(self._asked) >= ASKED_LIMIT:
                return
            self._asked[question] = None
            if self._asking:
                return
            self._asking = True
        threading.Thread(target=self._look_up, name="prices", daemon=True).start()

    def _look_up(self) -> None:
        """Runs in a thread of its own, while there is anything to look up."""
        failures = 0
        while not self._stopped.wait(max(0.0, self._not_before - time.monotonic())):
            questions = list(self._asked)
            try:
                tables = self._ask(questions)
            except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
                failures += 1
                if failures >= FAILURES_LIMIT:
                    self.failure = f"prices cannot be looked up: {type(error).__name__}"
                    break
            else:
                failures = 0
                for question, table in zip(questions, tables, strict=True):
                    _remember(self._known, question, table)
                    self._asked.pop(question, None)
            self._not_before = time.monotonic() + PAUSE_S
            with self._changed:
                if not self._asked:
                    self._asking = False
                    self._changed.notify_all()
                    return
        with self._changed:
            self._asked.clear()
            self._asking = False
            self._changed.notify_all()


_K = TypeVar("_K")
_V = TypeVar("_V")


def _remember(cache: dict[_K, _V], key: _K, value: _V) -> None:
    while len(cache) >= KNOWN_LIMIT:
        cache.pop(next(iter(cache)), None)
    cache[key] = value


# --- whose price -------------------------------------------------------------------------------------------------------------------


def whom_to_ask(provider_type: str, model: str, base_url: str | None) -> Question | None:
    """The question for the library, or None where there is no price to be known: own machines, addresses nobody lists.

    The types "openai" and "anthropic" name a dialect that many services speak, so that there the address decides.
    """
    if provider_type in _OWN_MACHINE or (base_url and _is_own(base_url)):
        return None
    if base_url and provider_type in _DIALECTS:
        return Question(model.lower(), url=base_url)
    return Question(model.lower(), service=_SERVICES.get(provider_type, provider_type))


def _is_own(base_url: str) -> bool:
    """Whether the address is on this machine or in a private network: nobody sends a bill that a list could tell."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))


# --- how much ----------------------------------------------------------------------------------------------------------------------


class _Told(msgspec.Struct):
    """What some providers say beside the token counts (OpenRouter, Perplexity). Dollars."""

    cost: float | _Sum | None = None
    is_byok: bool | None = None
    cost_details: _Details | None = None


class _Sum(msgspec.Struct):
    total_cost: float


class _Details(msgspec.Struct):
    upstream_inference_cost: float | None = None


_told = msgspec.json.Decoder(_Told)


def told_cost(usage: Usage) -> float | None:
    """What the provider says that the call cost, where its usage object says it.

    With a key of the user's own at OpenRouter (`is_byok`), `cost` is its fee alone, and what the model's maker charges stands beside it.
    https://openrouter.ai/docs/use-cases/usage-accounting
    """
    if usage.raw is None or b'"cost"' not in bytes(usage.raw):
        return None
    try:
        told = _told.decode(usage.raw)
    except msgspec.MsgspecError:
        return None
    cost = told.cost.total_cost if isinstance(told.cost, _Sum) else told.cost
    if cost is None or not math.isfinite(cost) or cost < 0:
        return None
    if told.is_byok and told.cost_details is not None:
        cost += max(0.0, told.cost_details.upstream_inference_cost or 0.0)
    return cost


def total(table: Table, usage: Usage, *, tier: str | None = None, at: float) -> float | None:
    """Dollars for these counts at that time (Unix seconds), or None where there are tokens that the table has no price for.

    A count without a price of its own costs what the count that contains it costs: cached tokens are input, reasoning is output.
    """
    row = _row(table, tier=tier, at=at)
    whole = usage.input
    charged: list[tuple[int, Price]] = []
    fresh = whole
    for count, price in (
        (usage.cache_read, row.cache_read),
        (usage.cache_write_1h, row.cache_write_1h),
        (usage.cache_write - (usage.cache_write_1h if row.cache_write_1h else 0), row.cache_write),
    ):
        if price is not None:
            charged.append((count, price))
            fresh -= count
    said = usage.output
    if row.reasoning is not None:
        charged.append((usage.reasoning, row.reasoning))
        said -= usage.reasoning
    for count, price in ((fresh, row.input), (said, row.output)):
        if price is not None:
            charged.append((count, price))
        elif count:
            return None
    if row.request is not None:
        charged.append((1, row.request))
    return sum(max(0, count) * price.at(whole) for count, price in charged) if charged else None


def _row(table: Table, *, tier: str | None, at: float) -> PriceRow:
    row = table.periods[0].prices
    for period in reversed(table.periods):
        if period.holds(at):
            row = period.prices
            break
    if tier is None:
        return row
    found: dict[str, Price] = {}
    for period in table.tiers:
        if period.tier == tier and period.holds(at):
            for name in PriceRow.__struct_fields__:
                if (price := getattr(period.prices, name)) is not None:
                    found.setdefault(name, price)
    return msgspec.structs.replace(row, **found) if found else row
