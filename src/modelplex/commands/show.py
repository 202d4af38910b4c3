"""`modelplex show`: a run or one call as a readable transcript, or the bytes of a body."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import msgspec

from modelplex.commands.acts import who
from modelplex.commands.record import OK, fail
from modelplex.commands.tail import one_line
from modelplex.commands.text import count, line, local_time, money, plain
from modelplex.commands.transcript import Block, Entry, new_entries, read_received, read_sent
from modelplex.records.store.database import Database
from modelplex.records.store.queries import (
    RunSummary,
    StoredCall,
    calls_of_run,
    one_call,
    one_run,
    recent_acts,
    request_body,
    request_headers,
    response_body,
    sent_body,
)
from modelplex.records.store.rows import CallSummary

INDENT = "    "


def show(arguments: argparse.Namespace, database: Database) -> int:
    run = one_run(database, arguments.id)
    if run is not None and not arguments.raw:
        calls = calls_of_run(database, run.id)
        if arguments.json:
            _print_json({"run": run, "calls": calls})
        else:
            sys.stdout.writelines(f"{row}\n" for row in run_lines(database, run, calls))
        return OK
    found = one_call(database, arguments.id)
    if found is None:
        return fail(f"there is no run and no call {line(arguments.id)} in {database.place}.")
    if arguments.raw:
        return _raw(database, found, response=arguments.response, attempt=arguments.attempt)
    if arguments.json:
        headers = request_headers(database, found)
        _print_json({"call": found.call, "detail": found.detail, "headers": headers})
    else:
        sys.stdout.writelines(f"{row}\n" for row in call_lines(database, found))
    return OK


def _raw(database: Database, found: StoredCall, *, response: bool, attempt: int | None) -> int:
    id_ = found.call.id
    if attempt is not None:
        body = sent_body(database, id_, attempt)
        if body is None:
            return fail(
                f"what went to a provider in attempt {attempt} of {id_} is not stored, or nothing did."
            )
    else:
        body = (response_body if response else request_body)(database, id_)
    if body is None:
        return fail(f'the body of {id_} is not stored: [record] content = "full" stores bodies.')
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
    if found.detail.masked:
        fail("secrets of the config were taken out of this body.")
    return OK


def _print_json(document: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")


# --- a run ---


def run_lines(database: Database, run: RunSummary, calls: list[CallSummary]) -> Iterator[str]:
    yield f"{run.id}: {count(run.calls, 'call')}, {count(run.tool_calls, 'tool call')}, {run.tokens_in} tokens in, {run.tokens_out} out, {money(run.cost)}"
    facts = {
        "started": local_time(run.started),
        "agent": run.agent,
        "command": run.command,
        "folder": run.folder,
        "repository": run.repository,
        "branch": run.branch,
        "tags": ", ".join(f"{name}={value}" for name, value in run.tags.items()),
    }
    yield from (f"{name}: {line(value)}" for name, value in facts.items() if value)
    for act in reversed(recent_acts(database, run=run.id)):
        yield line(f"admin: {local_time(act.started)} {who(act)}: {act.act} {act.target} ({act.outcome})")
    known = {call.id: call for call in calls}
    for call in calls:
        yield ""
        yield from _call_in_run(database, call, known)


def _call_in_run(database: Database, call: CallSummary, known: dict[str, CallSummary]) -> Iterator[str]:
    """What the call adds to the one that it extends, and its response."""
    parent = known.get(call.parent or "")
    how = f" ({call.relation} of {parent.id})" if parent is not None and call.relation != "turn" else ""
    how = how or (f" ({call.relation})" if call.relation in {"compaction", "subagent", "retry"} else "")
    yield f"== {one_line(call)}{how}"
    body = request_body(database, call.id)
    if body is not None and call.kind == "model":
        entries = read_sent(call, body).entries
        if parent is not None and (before := request_body(database, parent.id)) is not None:
            answered = response_body(database, parent.id) is not None
            earlier = len(read_sent(parent, before).entries)
            entries = tuple(new_entries(entries, before=earlier, answered=answered))
        for entry in entries:
            yield from _entry_lines(entry)
    elif body:
        yield f"{INDENT}{line(body.decode('utf-8', 'replace'))}"
    yield from _response_lines(database, call)


# --- one call ---


def call_lines(database: Database, found: StoredCall) -> Iterator[str]:
    call, detail = found.call, found.detail
    yield one_line(call)
    facts = {
        "host": found.host,
        "run": f"{call.run} ({call.relation}{f' of {call.parent}' if call.parent else ''})",
        "caller": " ".join(
            filter(None, (call.listener, call.client, f"pid {call.pid}" if call.pid else "", call.reach))
        ),
        "request": f"{call.endpoint} ({call.dialect}), model {call.requested_model}, {call.bytes_in} bytes, {call.messages} messages",
        "response": f"status {call.status}, {call.bytes_out} bytes, {call.finish_reason or call.code or call.outcome}",
        "error": f"{call.error} (blame: {call.blame})" if call.error else "",
        "times": f"{call.seconds:.3f} s, first output {f'{call.first_output:.3f} s' if call.first_output is not None else 'none'}, overhead {call.overhead * 1000:.1f} ms",
    }
    if call.kind == "tool":
        facts["request"] = (
            f"{detail.method}, {call.bytes_in} bytes, decision {detail.decision} {detail.rule}".rstrip()
        )
    if detail.trace is not None:
        facts["trace"] = f"{detail.trace.trace_id}, below the client's span {detail.trace.parent_id}"
    yield from (f"{name}: {line(value)}" for name, value in facts.items() if value)
    if detail.declared is not None:
        yield f"the body was not read to its end: it was to have {detail.declared} bytes"
    yield from (line(f"header {name}: {value}") for name, value in request_headers(database, found))
    for number, each in enumerate(detail.attempts, 1):
        tokens = "" if each.tokens_in is None else f", {each.tokens_in}+{each.tokens_out} tokens"
        why = f": {each.message}" if each.message else ""
        yield line(
            f"attempt {number}: {each.provider}/{each.model} {each.outcome} {each.seconds:.3f} s{tokens}{why}"
        )
    yield from (line(f"stripped: {each.pointer} ({each.rule})") for each in detail.stripped)
    yield from (line(f"changed: {each.op} {each.path}: {each.reason}") for each in detail.changes)
    body = request_body(database, call.id)
    if body is not None and call.kind == "model":
        yield ""
        for entry in read_sent(call, body).entries:
            yield from _entry_lines(entry)
    elif body:
        yield f"{INDENT}{line(body.decode('utf-8', 'replace'))}"
    yield from _response_lines(database, call)


def _response_lines(database: Database, call: CallSummary) -> Iterator[str]:
    body = response_body(database, call.id)
    if not body:
        return
    if call.kind == "tool":
        yield from _text_lines("result", body.decode("utf-8", "replace"))
    else:
        yield from _entry_lines(read_received(call, body))


def _entry_lines(entry: Entry) -> Iterator[str]:
    for block in entry.blocks:
        yield from _text_lines(_label(entry, block), block.text)


def _label(entry: Entry, block: Block) -> str:
    match block.kind:
        case "tool_call":
            return f"{entry.role} calls {block.name}"
        case "tool_result":
            return f"result of {block.name or block.id}{' (an error)' * block.is_error}"
        case "reasoning":
            return f"{entry.role} reasons"
        case _:
            return entry.role


def _text_lines(label: str, text: str) -> Iterator[str]:
    yield f"{line(label)}:"
    yield from (f"{INDENT}{row}" for row in plain(text).split("\n"))
