"""A run of the record store as a recording."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from modelplex.core.events import Usage
from modelplex.records.store.database import Database, StoreError, open_database
from modelplex.records.store.queries import (
    StoredCall,
    calls_of_run,
    one_call,
    one_run,
    request_parts,
    response_body,
)
from modelplex.records.store.rows import SESSION
from modelplex.replay.recording import RecordedCall, RecordedRun, RecordingError, RunRecording


def recording_of_run(place: str, id: str) -> RunRecording:
    """The run with this id in the store at `place`. Blocks. Raises RecordingError."""
    try:
        database = open_database(place, read_only=True)
    except StoreError as error:
        raise RecordingError(error.sentence) from None
    try:
        return read_run(database, id)
    except StoreError as error:
        raise RecordingError(error.sentence) from None
    finally:
        database.close()


def read_run(database: Database, id: str) -> RunRecording:
    """Raises RecordingError where there is no such run, or nothing of it can be replayed; and
    StoreError.
    """
    run = one_run(database, id)
    if run is None:
        raise RecordingError(f"there is no run {id} in {database.place}: `modelplex runs` lists them.")
    found = list(_calls(database, id))
    calls = [call for call in found if call is not None]
    if not calls:
        reason = (
            "it has no calls"
            if not found
            else 'its bodies are not stored: [record] content = "full" keeps them, which is the default of modelplex run'
        )
        raise RecordingError(f"nothing of the run {id} in {database.place} can be replayed: {reason}.")
    described = RecordedRun(
        id=run.id,
        started=run.started,
        agent=run.agent,
        command=run.command,
        folder=run.folder,
        repository=run.repository,
        branch=run.branch,
        tags=run.tags,
        left_out=len(found) - len(calls),
    )
    return RunRecording(f"run {id}", described, calls)


def _calls(database: Database, run: str) -> Iterator[RecordedCall | None]:
    """None for a call without a whole response."""
    pool: dict[bytes, bytes] = {}
    for listed in calls_of_run(database, run, sessions=True):
        stored = one_call(database, listed.id)
        if stored is None:  # deleted meanwhile
            continue
        response = response_body(database, listed.id)
        if response is None or "response" in stored.detail.cut or "request" in stored.detail.cut:
            yield None
            continue
        contents = [part.content for part in request_parts(database, listed.id)]
        yield _call(stored, tuple(pool.setdefault(each, each) for each in contents), response)


def _call(stored: StoredCall, pieces: tuple[bytes, ...], response: bytes) -> RecordedCall:
    call, is_tool = stored.call, stored.call.kind != "model"
    return RecordedCall(
        id=call.id,
        kind=_kind(call.kind),
        started=call.started,
        endpoint=call.endpoint,
        dialect=stored.detail.era if is_tool else call.dialect,
        model=call.tool if is_tool else call.requested_model,
        server=call.server,
        stream=call.stream,
        status=call.status,
        outcome=call.outcome,
        code=stored.detail.reason or None if is_tool else call.code,
        error=call.error,
        finish_reason=call.finish_reason,
        usage=_usage(stored),
        seconds=call.seconds,
        first_output=call.first_output,
        pieces=pieces,
        response=response,
    )


def _kind(stored: str) -> Literal["model", "tool", "session"]:
    return "tool" if stored == "tool" else "session" if stored == SESSION else "model"


def _usage(stored: StoredCall) -> Usage | None:
    call, rest = stored.call, stored.detail.usage
    if call.tokens_in is None:
        return None
    read, written = call.cache_read or 0, call.cache_write or 0
    return Usage(
        fresh=call.tokens_in - read - written,
        cache_read=read,
        cache_write=written,
        output=call.tokens_out or 0,
        reasoning=call.reasoning or 0,
        estimated=rest is not None and rest.estimated,
    )
