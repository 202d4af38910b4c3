"""A Record, and what Prometheus reads of its metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from modelplex.core.events import Usage
from modelplex.records.metrics import Metrics
from modelplex.records.record import AttemptRecord, Record, Times


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "id": "req_1",
        "started": 1.0,
        "listener": "tcp:127.0.0.1:11435",
        "client": "127.0.0.1",
        "endpoint": "chat/completions",
        "dialect": "openai_chat",
        "requested_model": "gpt",
        "model": "gpt-4o",
        "provider": "openai",
        "stream": True,
        "status": 200,
        "usage": Usage(fresh=70, cache_read=20, cache_write=10, output=9, reasoning=4),
        "cost": 0.5,
        "times": Times(overhead=0.0004, first_output=0.3, total=2.0),
        "attempts": (AttemptRecord("openai", "gpt-4o", 0, "ok", 200, 2.0),),
        "bytes_in": 1000,
        "bytes_out": 300,
    }
    return Record(**(fields | changes))


def read(counts: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the text as Prometheus reads it: (name, labels) -> value."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(counts.render().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} appears twice"
            samples[key] = sample.value
    return samples


def value(counts: Metrics, name: str, **labels: str) -> float:
    """The sum of the samples with that name that have at least these labels."""
    found = [
        number
        for (sample, its), number in read(counts).items()
        if sample == name and frozenset(labels.items()) <= its
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)
