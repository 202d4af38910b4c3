"""OpenAI Responses: the Dialect values, for clients and for providers.

Nothing is stored at a provider: the items of a response that a client names by its id are put into
the request before it is read (`with_history`). docs/reference/wire-formats.md#responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from modelplex.core.errors import BadRequest, ModelplexError
from modelplex.core.request import Attempt, Change, RawRequest
from modelplex.dialects.core import sse
from modelplex.dialects.core.bounds import MAX_MESSAGES, MAX_TOOLS
from modelplex.dialects.core.json import as_object, decode_mended, encode
from modelplex.dialects.core.search import holds_any
from modelplex.dialects.dialect import (
    Amendment,
    ClientDialect,
    Dialect,
    PassthroughDialect,
    ProviderDialect,
    ResponseStorage,
    StoredContext,
    StreamFraming,
)
from modelplex.dialects.openai_chat.dialect import drop_refused, read_models
from modelplex.dialects.openai_chat.errors import read_error, write_error
from modelplex.dialects.openai_responses import fields, forms, policy, strip_foreign
from modelplex.dialects.openai_responses.compaction import (
    asked_for_summary,
    read_compaction,
    write_compaction,
)
from modelplex.dialects.openai_responses.constants import CLIENT_RUN, DIALECT, TRIGGER
from modelplex.dialects.openai_responses.instructions import amended_instructions
from modelplex.dialects.openai_responses.passthrough import ResponsesObserver, observe, observer
from modelplex.dialects.openai_responses.request_in import (
    input_items,
    output_items,
    previous_response,
    read_call,
    wants_storing,
    with_history,
)
from modelplex.dialects.openai_responses.request_out import write_call
from modelplex.dialects.openai_responses.response_in import ResponsesReader, read_response
from modelplex.dialects.openai_responses.response_out import (
    ResponsesWriter,
    write_failed_stream,
    write_response,
)
from modelplex.dialects.openai_responses.stored import (
    final_response,
    read_reference,
    response_id,
    with_items,
)
from modelplex.dialects.openai_responses.unsealed import without_unsealed
from modelplex.policy.judge import PolicyTable

__all__ = [
    "COUNT",
    "DIALECT",
    "RESPONSES",
    "ResponsesObserver",
    "ResponsesReader",
    "ResponsesWriter",
    "check_state",
    "final_response",
    "input_items",
    "observe",
    "observer",
    "output_items",
    "previous_response",
    "read_call",
    "read_error",
    "read_models",
    "read_reference",
    "read_response",
    "response_id",
    "wants_storing",
    "with_history",
    "with_items",
    "write_call",
    "write_deleted",
    "write_error",
    "write_error_event",
    "write_input_tokens",
    "write_item_list",
    "write_response",
]


def write_error_event(error: ModelplexError, *, sequence_number: int = 0) -> bytes:
    """The in-stream error of an answer that passes: the flat `error` event of
    docs/reference/wire-formats.md#responses. Nothing may follow it.
    """
    members = {"code": error.code, "message": error.message, "param": error.param}
    return sse.event(encode({"type": "error", **members, "sequence_number": sequence_number}), name=b"error")


# --- state ----------------------------------------------------------------------------------------

_KEPT_ELSEWHERE = {
    "conversation": "Conversations are not kept here; send the items, or go on from a response with 'previous_response_id'.",
    "prompt": "Prompts are not kept here; send the text itself.",
}


def check_state(raw_request: RawRequest, keeps: bool) -> None:  # noqa: FBT001 - see ResponseStorage
    """Refuses what asks for a state that nobody here keeps; `keeps` tells whether the gateway keeps
    answers ([server] keep_responses).

    Raises:
        BadRequest: naming the member.
    """
    fields: Mapping[str, msgspec.Raw] = raw_request.fields
    for name, sentence in _KEPT_ELSEWHERE.items():
        if bytes(fields.get(name, b"null")) != b"null":
            raise BadRequest(f"'{name}' is not served: {sentence}", param=name)
    if bytes(fields.get("background", b"null")) not in {b"null", b"false"}:
        raise BadRequest(
            "'background' is not supported: a response is sent on the connection of its request.",
            param="background",
        )
    if not keeps and previous_response(raw_request) is not None:
        raise BadRequest(
            "'previous_response_id' is not served, since answers are not kept here: send the earlier items in 'input', or set "
            "[server] keep_responses.",
            param="previous_response_id",
        )


def write_item_list(items: Sequence[msgspec.Raw], response_id: str) -> bytes:
    """The answer of GET /responses/{id}/input_items. An item without an id gets one of its response
    and its place.
    """
    listed: list[dict[str, Any]] = []
    for n, raw in enumerate(items):
        item = as_object(decode_mended(bytes(raw), msgspec.json.Decoder().decode)) or {}
        item.setdefault("type", "message")
        if not item.get("id"):
            item["id"] = f"{item['type']}_{response_id.removeprefix('resp_')}_{n}"
        if item["type"] == "message" and isinstance(item.get("content"), str):
            kind = "output_text" if item.get("role") == "assistant" else "input_text"
            item["content"] = [{"type": kind, "text": item["content"]}]
        listed.append(item)
    ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {}
    return encode(
        {"object": "list", "data": listed, "first_id": None, "last_id": None, **ends, "has_more": False}
    )


def write_deleted(response_id: str) -> bytes:
    """The answer of DELETE /responses/{id}."""
    return encode({"id": response_id, "object": "response", "deleted": True})


def write_input_tokens(tokens: int) -> bytes:
    """The answer of POST /responses/input_tokens."""
    return encode({"object": "response.input_tokens", "input_tokens": tokens})


# --- passthrough

_TRIGGER = f'"{TRIGGER}"'.encode()


def amend(raw_request: RawRequest, attempt: Attempt) -> Amendment | None:
    """Responses are stored here and never at a provider; what the service refuses is left out."""
    members: dict[str, msgspec.Raw | None] = {}
    changes: tuple[Change, ...] = ()
    stored = attempt.endpoint == "responses" and "store" not in attempt.quirks.refuses
    if stored and bytes(raw_request.fields.get("store", b"null")) != b"false":
        members["store"] = msgspec.Raw(b"false")
    if (instructions := amended_instructions(raw_request, attempt.quirks)) is not None:
        members |= instructions[0]
        changes = instructions[1]
    given = members.get("input") or raw_request.fields.get("input")
    if (unsealed := without_unsealed(given, raw_request, attempt.quirks)) is not None:
        members["input"] = unsealed[0]
        changes += unsealed[1]
    if (refused := drop_refused(raw_request, attempt)) is not None:
        members |= refused.members
        changes += refused.changes
    return Amendment(members, changes) if members else None


def needs_hub(raw_request: RawRequest, attempt: Attempt) -> bool:
    """Whether messages may have to be joined for a template, or the body ends with a trigger of a
    compaction that this provider does not have.
    """
    if attempt.quirks.roles == "alternate" or attempt.quirks.system_messages == "nowhere":
        return True
    return not attempt.quirks.compacts and holds_any(raw_request.body, (_TRIGGER,))


def _storing_client(kept: StoredContext) -> ClientDialect:
    """The client half for a response that the gateway keeps."""
    return ClientDialect(
        read_call=read_call,
        write_response=partial(write_response, kept=kept),
        writer=partial(ResponsesWriter, kept=kept),
    )


# --- the values

_LISTS = {"input": MAX_MESSAGES, "tools": MAX_TOOLS}

_PASSTHROUGH = PassthroughDialect(
    observer=observer,
    observe=observe,
    framing=StreamFraming("text/event-stream", b": ping\n\n", lambda error, _: write_error_event(error)),
)

RESPONSES = Dialect(
    form=forms.RESPONSES,
    conversation=fields.FIELDS.members_of("messages"),
    leaf_of=fields.FIELDS.leaf_of,
    policy=PolicyTable(fields.FIELDS.policy, policy.FINISH, store="always"),
    lists=_LISTS,
    amend=amend,
    opaque_members=(b'"encrypted_content"',),
    stored_members=(b'"file_id"', b'"item_reference"'),
    needs_hub=needs_hub,
    lower=asked_for_summary,
    strip_foreign=strip_foreign.strip,
    client_run_tools=tuple(CLIENT_RUN),
    client=ClientDialect(read_call=read_call, write_response=write_response, writer=ResponsesWriter),
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=ResponsesReader,
        read_error=read_error,
        read_models=read_models,
    ),
    passthrough=_PASSTHROUGH,
    storage=ResponseStorage(
        client=_storing_client,
        check_state=check_state,
        previous_response=previous_response,
        wants_storing=wants_storing,
        input_items=input_items,
        with_items=with_items,
        with_history=with_history,
        read_reference=read_reference,
        response_id=response_id,
        output_items=output_items,
        final_response=final_response,
        write_item_list=write_item_list,
        write_deleted=write_deleted,
    ),
    write_error=write_error,
    write_failed_stream=write_failed_stream,
)
COUNT = Dialect(
    form=forms.COUNT,
    policy=PolicyTable(fields.COUNT_BODY, policy.COUNT_FINISH),
    variant_of=RESPONSES,
    lists=_LISTS,
    stream="never",
    write_count=write_input_tokens,
)
COMPACT = Dialect(
    form=forms.COMPACT,
    policy=PolicyTable(fields.COMPACT_BODY, policy.FINISH),
    variant_of=RESPONSES,
    lists=_LISTS,
    stream="never",
    opaque_members=RESPONSES.opaque_members,
    stored_members=RESPONSES.stored_members,
    client=ClientDialect(read_call=read_compaction, write_response=write_compaction, writer=ResponsesWriter),
    passthrough=_PASSTHROUGH,
)

DIALECTS = (RESPONSES, COUNT, COMPACT)
