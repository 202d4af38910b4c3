"""Merges the views of all workers into one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from modelplex.config.workers import Assignment

NO_ANSWER = "no answer"
"""The state of a worker that did not answer in time."""

Views = Mapping[int, Any]
"""The decoded view of each worker, by its number; None where it did not answer."""


class Workers(msgspec.Struct):
    """`asked` is the worker that answers; `addresses` are the listeners of all. A reload changes
    the others.
    """

    asked: int
    assignment: Assignment
    addresses: Sequence[str] = ()


def merge(view: str, bodies: Mapping[int, bytes | None], workers: Workers) -> bytes:
    """The merged view as JSON. A view that this module does not know is shown for each worker."""
    views = {number: None if body is None else msgspec.json.decode(body) for number, body in bodies.items()}
    return msgspec.json.encode(_MERGES.get(view, _side_by_side)(views, workers))


def _side_by_side(views: Views, workers: Workers) -> object:
    del workers
    return {
        "workers": [
            _row(number, {"view": view} if view is not None else None) for number, view in views.items()
        ]
    }


def _row(number: int, view: Mapping[str, Any] | None) -> dict[str, object]:
    return {"worker": number, **(view if view is not None else {"state": NO_ANSWER})}


def _answered(views: Views) -> dict[int, Any]:
    return {number: view for number, view in views.items() if view is not None}


def _labelled(views: Views, member: str) -> list[dict[str, object]]:
    """The rows of a member of all workers, each with its worker."""
    return [
        {"worker": number, **row} for number, view in _answered(views).items() for row in view.get(member, ())
    ]


def _providers(views: Views, asked: int) -> list[dict[str, object]]:
    """The asked worker's providers, each with the circuits of all workers."""
    of_provider: dict[str, list[object]] = {}
    for number, view in _answered(views).items():
        for row in view["providers"]:
            circuits = [{"worker": number, **circuit} for circuit in row["breakers"]]
            of_provider.setdefault(row["name"], []).extend(circuits)
    return [{**row, "breakers": of_provider[row["name"]]} for row in views[asked]["providers"]]


def _status(views: Views, workers: Workers) -> object:
    answered = _answered(views)
    is_shared = views[workers.asked]["shared"] is not None
    members = ("pid", "uptime_seconds", "listeners", *(["shared"] if is_shared else []))
    rows = {
        number: None if view is None else {"state": "ok", **{name: view[name] for name in members}}
        for number, view in views.items()
    }
    own = {name: member for name, member in views[workers.asked].items() if name != "pid"}
    return {
        **own,
        "uptime_seconds": max(view["uptime_seconds"] for view in answered.values()),
        "listeners": list(workers.addresses),
        "providers": _providers(views, workers.asked),
        "log_lines_dropped": sum(view["log_lines_dropped"] for view in answered.values()),
        "records": _records([view["records"] for view in answered.values()]),
        "workers": [_row(number, row) for number, row in rows.items()],
    }


_COUNTS: Final = ("waiting", "written", "put_off", "dropped", "without_bodies")


def _records(stores: Sequence[Mapping[str, Any] | None]) -> dict[str, object] | None:
    """The store of records that all write to; `failure` is that of any."""
    rows = [row for row in stores if row is not None]
    if not rows:
        return None
    counts = {name: sum(row[name] for row in rows) for name in _COUNTS}
    texts: dict[str, object] = {
        name: next((row[name] for row in rows if row[name]), "") for name in ("place", "failure")
    }
    return {**texts, **counts}


def _health(views: Views, workers: Workers) -> object:
    merged = {
        **views[workers.asked],
        "providers": _providers(views, workers.asked),
        "workers": [_row(number, view and {"state": "ok"}) for number, view in views.items()],
    }
    if tools := _labelled(views, "tool_servers"):
        merged["tool_servers"] = tools
    return merged


def _agents(views: Views, workers: Workers) -> object:
    """Each agent as its own worker counts it."""
    rows: list[dict[str, object]] = []
    for row in views[workers.asked]["agents"]:
        number = workers.assignment.worker_of(row["agent"])
        view = views.get(number)
        found = next((one for one in view["agents"] if one["agent"] == row["agent"]), None) if view else None
        rows.append({"agent": row["agent"], **_row(number, found)})
    seen = [view["others"]["attested"] for view in _answered(views).values()]
    ledgers = [view["ledger"] for view in _answered(views).values() if view["ledger"] is not None]
    return {
        "agents": rows,
        "teams": views[workers.asked].get("teams", []),
        "others": {"attested": next((one for one in seen if one is not None), None)},
        "ledger": {
            **ledgers[0],
            "waiting": sum(one["waiting"] for one in ledgers),
            "failures": sum(one["failures"] for one in ledgers),
        }
        if ledgers
        else None,
    }


def _tools(views: Views, workers: Workers) -> object:
    return {**views[workers.asked], "servers": _labelled(views, "servers")}


def _config(views: Views, workers: Workers) -> object:
    return views[workers.asked]


_MERGES: Mapping[str, Callable[[Views, Workers], object]] = {
    "status": _status,
    "health": _health,
    "agents": _agents,
    "mcp": _tools,
    "config": _config,
}


def merge_metrics(texts: Mapping[int, bytes | None]) -> bytes:
    """One text in Prometheus' format, in which each sample has the label `worker`. The counts are
    not added: a sum falls when a worker ends, and Prometheus takes that for a counter that started
    anew.
    """
    heads: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for number, text in texts.items():
        family = ""
        for line in (text or b"").decode().splitlines():
            if line.startswith("#"):
                _, kind, family, _ = line.split(" ", 3)
                heads.setdefault(family, {}).setdefault(kind, line)
            else:
                samples.setdefault(family, []).append(_with_worker(line, number))
    lines = [line for family, head in heads.items() for line in (*head.values(), *samples.get(family, ()))]
    lines += ["# HELP modelplex_worker_up Whether a worker answered.", "# TYPE modelplex_worker_up gauge"]
    lines += [
        f'modelplex_worker_up{{worker="{number}"}} {float(text is not None)}'
        for number, text in texts.items()
    ]
    return "\n".join([*lines, ""]).encode()


def _with_worker(sample: str, number: int) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{worker="{number}",{rest}'
    name, _, rest = sample.partition(" ")
    return f'{name}{{worker="{number}"}} {rest}'
