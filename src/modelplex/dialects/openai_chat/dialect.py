"""OpenAI chat completions and OpenAI's other endpoints: the Dialect values.

Here are model lists, and what a service that deviates from OpenAI's needs changed in a body that
passes (docs/reference/wire-formats.md#chat-completions and #openai-compatible-servers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import ListedModel
from modelplex.core.request import Attempt, Change, Quirks, RawRequest
from modelplex.dialects.core import sse
from modelplex.dialects.core.json import decode_mended, encode
from modelplex.dialects.dialect import (
    Amendment,
    ClientCompletions,
    ClientDialect,
    ClientEmbeddings,
    Dialect,
    PassthroughDialect,
    ProviderDialect,
    ProviderEmbeddings,
    StreamFraming,
)
from modelplex.dialects.openai_chat import completions, embeddings, fields, forms, policy, policy_endpoints
from modelplex.dialects.openai_chat.call_ids import amended_ids, id_marks
from modelplex.dialects.openai_chat.errors import read_error, write_error
from modelplex.dialects.openai_chat.instructions import amended_instructions, instruction_marks
from modelplex.dialects.openai_chat.passthrough import ChatObserver, observe, observer
from modelplex.dialects.openai_chat.request_in import read_call
from modelplex.dialects.openai_chat.request_out import write_call
from modelplex.dialects.openai_chat.response_in import ChatReader, read_response
from modelplex.dialects.openai_chat.response_out import ChatWriter, write_response
from modelplex.dialects.openai_chat.token_ids import ChatTokens
from modelplex.policy.judge import PolicyTable

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "DIALECT",
    "EMBEDDINGS",
    "JSON",
    "ChatObserver",
    "ChatReader",
    "ChatWriter",
    "drop_refused",
    "observe",
    "observer",
    "read_call",
    "read_error",
    "read_models",
    "read_response",
    "write_call",
    "write_error",
    "write_response",
]

DIALECT = "openai_chat"


class _Model(msgspec.Struct, gc=False):
    id: str
    created: int | float | None = None


class _Models(msgspec.Struct, gc=False):
    data: list[_Model]


_decode_models = msgspec.json.Decoder(_Models | list[_Model]).decode


def read_models(body: bytes) -> list[ListedModel]:
    """`{"data": [...]}`, or the list alone (Together). Raises UpstreamBroken for anything else."""
    found = decode_mended(body, _decode_models)
    if found is None:
        raise UpstreamBroken("The provider's list of models is not one in OpenAI's form.")
    models = found.data if isinstance(found, _Models) else found
    return [ListedModel(model.id, int(model.created or 0)) for model in models]


def write_models(known: Mapping[str, str]) -> bytes:
    """The response to `GET /v1/models`. `known` maps a model's name to who serves it."""
    return encode({"object": "list", "data": [_listed(name, owner) for name, owner in known.items()]})


def write_model(name: str, owner: str) -> bytes:
    """The response to `GET /v1/models/{name}`."""
    return encode(_listed(name, owner))


def _listed(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner or "modelplex"}


# --- passthrough


def amend(raw_request: RawRequest, attempt: Attempt) -> Amendment | None:
    """What a service that deviates from OpenAI's form needs changed, by its quirks."""
    amended = _amend_members(raw_request, attempt)
    fields = raw_request.fields
    changes: tuple[Change, ...] = ()
    if (instructions := amended_instructions(raw_request, attempt.quirks)) is not None:
        fields = {**fields, "messages": instructions[0]}
        changes = instructions[1]
    if (ids := amended_ids(fields, attempt.quirks)) is not None:
        fields = {**fields, "messages": ids[0]}
        changes += ids[1]
    if not changes:
        return amended
    amended = amended or Amendment({})
    members = {**amended.members, "messages": fields["messages"]}
    return Amendment(members, (*amended.changes, *changes))


def amend_marks(quirks: Quirks) -> tuple[bytes, ...]:
    """What `amend` looks for in messages at such a service."""
    return instruction_marks(quirks) + id_marks(quirks)


def _amend_members(raw_request: RawRequest, attempt: Attempt) -> Amendment | None:
    quirks, fields = attempt.quirks, raw_request.fields
    if quirks.output_limit == "max_tokens" and "max_completion_tokens" in fields:
        renamed = {"max_completion_tokens": None, "max_tokens": fields["max_completion_tokens"]}
        change = Change("rename", "max_completion_tokens", "this service reads max_tokens")
        refused = drop_refused(raw_request, attempt) or Amendment({})
        return Amendment({**renamed, **refused.members}, (change, *refused.changes))
    return drop_refused(raw_request, attempt)


def drop_refused(raw_request: RawRequest, attempt: Attempt) -> Amendment | None:
    """Without the members that the service answers with an error."""
    if raw_request.fields.keys().isdisjoint(attempt.quirks.refuses):
        return None
    refused = [name for name in attempt.quirks.refuses if name in raw_request.fields]
    changes = tuple(Change("drop", name, "this service answers it with an error") for name in refused)
    return Amendment(dict.fromkeys(refused), changes)


def needs_hub(raw_request: RawRequest, attempt: Attempt) -> bool:
    """Whether messages may have to be joined for a template, or several choices are asked of a
    service that gives one.
    """
    if attempt.quirks.roles == "alternate" or attempt.quirks.system_messages == "nowhere":
        return True
    choices = raw_request.fields.get("n")
    return attempt.quirks.one_choice and choices is not None and bytes(choices) not in {b"1", b"null"}


def _in_stream_error(error: ModelplexError, request_id: str) -> bytes:
    return sse.event(write_error(error, request_id=request_id)[1])


# --- the values

_FRAMING = StreamFraming("text/event-stream", b": ping\n\n", _in_stream_error)

CHAT = Dialect(
    form=forms.CHAT,
    conversation=fields.FIELDS.members_of("messages"),
    leaf_of=fields.FIELDS.leaf_of,
    policy=PolicyTable(fields.FIELDS.policy, policy.FINISH, store="at_own_address"),
    usage_on_request=True,
    amend=amend,
    amend_marks=amend_marks,
    needs_hub=needs_hub,
    opaque_members=(b'"reasoning_details"', b'"thought_signature"'),
    stored_members=(b'"file_id"', b'"audio"'),
    client=ClientDialect(read_call=read_call, write_response=write_response, writer=ChatWriter),
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=ChatReader,
        read_error=read_error,
        read_models=read_models,
        token_reader=ChatTokens,
    ),
    passthrough=PassthroughDialect(observer=observer, observe=observe, framing=_FRAMING),
    write_error=write_error,
    write_models=write_models,
    write_model=write_model,
)
COMPLETIONS = Dialect(
    form=forms.COMPLETIONS,
    policy=PolicyTable(fields.COMPLETION_FIELDS.policy),
    variant_of=CHAT,
    usage_on_request=True,
    amend=amend,
    amend_marks=amend_marks,
    passthrough=PassthroughDialect(
        observer=completions.observer, observe=completions.observe, framing=_FRAMING
    ),
    completions_client=ClientCompletions(
        read=completions.read_completion,
        write=completions.write_response,
        writer=completions.CompletionWriter,
    ),
)
EMBEDDINGS = Dialect(
    form=forms.EMBEDDINGS,
    policy=PolicyTable(policy_endpoints.EMBEDDINGS),
    variant_of=CHAT,
    stream="never",
    embeddings_client=ClientEmbeddings(
        read=embeddings.read_embedding,
        write=lambda embedded, _, asked, model: embeddings.write_embedded(embedded, asked, model),
    ),
    embeddings_provider=ProviderEmbeddings(
        write=embeddings.write_embedding, read=embeddings.read_embedded, observe=embeddings.observe
    ),
)
JSON = Dialect(
    form=forms.JSON,
    policy=PolicyTable(policy_endpoints.JSON),
    variant_of=CHAT,
)

DIALECTS = (CHAT, COMPLETIONS, EMBEDDINGS, JSON)
