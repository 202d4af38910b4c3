"""What becomes of a probe: it is sent the way that a request takes, and what is written for the
provider is looked at. Nothing is known here but by doing it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from modelplex.core.errors import BadRequest, StatePinned, Unsupported
from modelplex.core.events import Event, ResponseEnded, ResponseStarted, TextDelta, Usage, UsageReported
from modelplex.core.request import Attempt, Endpoint, RawRequest
from modelplex.dialects.endpoints import endpoint_for
from modelplex.dialects.exchange import Exchange
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.parsed_request import ParsedRequest
from modelplex.dialects.raw_request import read_request
from modelplex.providers import all_specs
from modelplex.providers.model_facts import model_facts
from tests.dialects.sides import client_dialect
from tests.matrix.probes import Answered, Form, Probe

PASSES = "passes"
CARRIED = "carried"
PARTLY = "partly"
MEANT = "meant anyway"
UNTOLD = "not told"
UNASKED = ""
REFUSED = "refused"
PINNED = "its maker alone"
OPS = {
    "drop": "dropped",
    "lower": "lowered",
    "clamp": "clamped",
    "move": "moved",
    "rename": "renamed",
    "add": "added to",
}


class Target(NamedTuple):
    """A provider to write for: its type, which dialect of it, and models that differ in what they
    take, today's usual one first.
    """

    title: str
    type: str
    dialect: str
    models: tuple[str, ...]


def attempt_at(target: Target, form: Form, model: str) -> Attempt:
    row = all_specs()[target.type]
    prefers: Endpoint | None = "responses" if target.dialect == openai_responses.DIALECT else None
    dialect, served = endpoint_for(row.dialect, form.endpoint, serves=row.serves, prefers=prefers)
    return Attempt(
        provider=target.type,
        model=model,
        dialect=target.dialect,
        endpoint=served if dialect == target.dialect else "chat/completions",
        quirks=row.quirks,
        facts=model_facts(model, target.dialect),
    )


def ask_for(form: Form, said: dict[str, Any], model: str) -> RawRequest:
    in_path = form.dialect.startswith("gemini")
    body = {**form.least, **said} if in_path else {"model": model, **form.least, **said}
    return read_request(
        msgspec.json.encode(body),
        endpoint=form.endpoint,
        dialect=form.dialect,
        model=model if in_path else None,
        stream=False if in_path else None,
    )


def exchange(form: Form, said: dict[str, Any], target: Target, model: str) -> Exchange:
    """Raises Unsupported or StatePinned; BadRequest where the probe itself is wrong."""
    ask = ask_for(form, said, model)
    if ask.dialect == openai_responses.DIALECT:
        try:
            openai_responses.check_state(ask, keeps=False)
        except BadRequest as error:
            raise Unsupported(error.message, param=error.param) from None
    return ParsedRequest(ask, id="x", created=0).exchange(attempt_at(target, form, model))


def verdict(probe: Probe, form: Form, target: Target) -> str:
    """What becomes of it: one word, or several where the models differ, in their order."""
    words = dict.fromkeys(of_model(probe, form, target, model) for model in target.models)
    return " / ".join(words)


def of_model(probe: Probe, form: Form, target: Target, model: str) -> str:
    said = {**probe.beside, **probe.body}
    try:
        sent = exchange(form, said, target, model)
    except StatePinned:
        return PINNED
    except Unsupported:
        return REFUSED
    without = exchange(form, probe.beside, target, model)
    if sent.is_passthrough and not sent.changes and _same(sent.body, ask_for(form, said, model)):
        return PASSES
    # What is lost with the probe or without it is another matter.
    lost = {change.op: None for change in sent.changes if change not in without.changes}
    says = _says(probe.mark, sent.body, without.body)
    if list(lost) == ["drop"] and probe.mark is not None and says:
        return PARTLY
    return _told(lost) if lost else CARRIED if says else MEANT


def _same(body: bytes, ask: RawRequest) -> bool:
    """Whether each member has the bytes that the client gave it."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return all(bytes(fields.get(name, b"")) == bytes(value) for name, value in ask.fields.items())


def _told(lost: Iterable[str]) -> str:
    return ", ".join(OPS[op] for op in lost)


def _says(mark: str | None, body: bytes, without: bytes) -> bool:
    """Whether the body says it. A mark is looked for after escapes of JSON are undone."""
    if mark is None:
        return body != without
    return mark in msgspec.json.encode(msgspec.json.decode(body)).decode()


# --- answers


def answer_verdict(probe: Answered, form: Form) -> str:
    """What becomes of an answer that holds this, for a client of the form."""
    if probe.asked is not None and form.dialect not in probe.asked:
        return UNASKED
    said = {} if probe.asked is None else probe.asked[form.dialect]
    body, changes = _answer(
        form, said, (*_PLAIN, *probe.events, ResponseEnded(probe.reason, sequence=probe.sequence))
    )
    without, _ = _answer(form, said, (*_PLAIN, ResponseEnded("stop")))
    says = _says(probe.mark, body, without)
    if list(changes) == ["drop"] and probe.mark is not None and says:
        return PARTLY
    return _told(changes) if changes else CARRIED if says else UNTOLD


_PLAIN: tuple[Event, ...] = (ResponseStarted(id="a", model="m"), TextDelta(0, "Well. "))


def _answer(form: Form, said: dict[str, Any], events: tuple[Event, ...]) -> tuple[bytes, dict[str, None]]:
    call = ParsedRequest(ask_for(form, said, "m"), id="x", created=0).call
    told = (*events, UsageReported(Usage(fresh=1, output=1)))
    body, changes = client_dialect(form.dialect).write_response(told, call, id="x", created=0, model="m")
    return body, {change.op: None for change in changes}


__all__ = ["Target", "answer_verdict", "exchange", "verdict"]
