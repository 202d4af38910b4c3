"""`modelplex export`: a run in a format that other programs read.

"jsonl" is ours: an object for each call, with its bodies as they were sent, where they are JSON:
the client's, what went to the provider of each attempt where that is another one, the response;
and its token ids where they are kept.
"otlp" (otlp.py) and "inspect" (inspect_log.py) are those of others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import msgspec

from modelplex.commands.record import OK, fail
from modelplex.commands.text import line
from modelplex.commands.transcript import Entry, ReadRequest, read_received, read_sent
from modelplex.records.store.database import Database
from modelplex.records.store.queries import (
    RunSummary,
    StoredCall,
    calls_of_run,
    one_call,
    one_run,
    request_body,
    request_headers,
    response_body,
    response_tokens,
    sent_body,
)

_encode = msgspec.json.Encoder().encode


class ReadCall(msgspec.Struct, frozen=True):
    """A call with its headers, and what its bodies say; None where they are not stored."""

    stored: StoredCall
    headers: list[tuple[str, str]]
    sent: ReadRequest | None
    received: Entry | None


def export(arguments: argparse.Namespace, database: Database) -> int:
    run = one_run(database, arguments.run)
    if run is None:
        return fail(f"there is no run {line(arguments.run)} in {database.place}.")
    out = sys.stdout.buffer
    sys.stdout.flush()
    match arguments.format:
        case "jsonl":
            out.writelines(jsonl(database, run))
        case "otlp":
            from modelplex.commands.otlp import otlp

            out.write(otlp(run, list(read_calls(database, run))))
        case _:
            from modelplex.commands.inspect_log import inspect_log

            out.write(inspect_log(run, list(read_calls(database, run))))
    out.flush()
    return OK


def read_calls(database: Database, run: RunSummary) -> Iterator[ReadCall]:
    for call in calls_of_run(database, run.id):
        stored = one_call(database, call.id)
        if stored is None:  # deleted meanwhile
            continue
        request, response = request_body(database, call.id), response_body(database, call.id)
        is_model = call.kind == "model"
        yield ReadCall(
            stored,
            request_headers(database, stored),
            read_sent(call, request) if request is not None and is_model else None,
            read_received(call, response) if response is not None and is_model else None,
        )


def jsonl(database: Database, run: RunSummary) -> Iterator[bytes]:
    for call in calls_of_run(database, run.id):
        stored = one_call(database, call.id)
        if stored is not None:
            document = {
                "call": stored.call,
                "detail": stored.detail,
                "headers": request_headers(database, stored),
                "request": _json_or_text(request_body(database, call.id)),
                "sent": [
                    _json_or_text(sent_body(database, call.id, number) if each.sent == "stored" else None)
                    for number, each in enumerate(stored.detail.attempts, 1)
                ],
                "response": _json_or_text(response_body(database, call.id)),
                "tokens": _json_or_text(response_tokens(database, call.id)),
            }
            yield _encode(document) + b"\n"


def _json_or_text(body: bytes | None) -> object:
    """JSON as it stands, unless it has line feeds, which would end the line; other bodies as
    text.
    """
    if not body:
        return None
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    return value if b"\n" in body else msgspec.Raw(body)
