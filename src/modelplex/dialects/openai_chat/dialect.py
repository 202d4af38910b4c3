"""OpenAI's chat completions: the dialect that clients speak most, and that most providers speak
too.

Above it stands the passage; below it the vocabulary. This page is the contract of
dialects/dialect.py, all three halves of it; each half has its file. The form and what compatible
servers make of it are in docs/reference/wire-formats.md#chat-completions and
#openai-compatible-servers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, ListedModel
from modelplex.core.request import Change, ChatRequest
from modelplex.dialects.core.json import decode_mended
from modelplex.dialects.openai_chat import response_out as openai_chat_response_out
from modelplex.dialects.openai_chat.errors import read_error, write_error
from modelplex.dialects.openai_chat.passthrough import ChatObserver, look, watch
from modelplex.dialects.openai_chat.request_in import read_call
from modelplex.dialects.openai_chat.request_out import write_call
from modelplex.dialects.openai_chat.response_in import ChatReader, read_answer, reader
from modelplex.dialects.openai_chat.response_out import ChatWriter

__all__ = [
    "DIALECT",
    "ChatObserver",
    "ChatReader",
    "ChatWriter",
    "look",
    "read_answer",
    "read_call",
    "read_error",
    "read_models",
    "reader",
    "watch",
    "write_answer",
    "write_call",
    "write_error",
    "writer",
]

DIALECT = "openai_chat"


class _Model(msgspec.Struct):
    id: str
    created: int | float | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


_decode_models = msgspec.json.Decoder(_Models | list[_Model]).decode


def writer(call: ChatRequest, *, id: str, created: int, model: str) -> ChatWriter:
    return ChatWriter(call, id_=id, created=created, model=model)


def write_answer(
    events: Sequence[Event],
    call: ChatRequest,
    *,
    id: str,
    created: int,
    model: str,
) -> tuple[bytes, list[Change]]:
    """A whole answer. Raises the error of a Failed."""
    return openai_chat_response_out.write_answer(events, call, id_=id, created=created, model=model)


def read_models(body: bytes) -> list[ListedModel]:
    """`{"data": [...]}`, or the list alone (Together). Raises UpstreamBroken for anything else."""
    found = decode_mended(body, _decode_models)
    if found is None:
        raise UpstreamBroken("The provider's list of models is not one in OpenAI's form.")
    models = found.data if isinstance(found, _Models) else found
    return [ListedModel(model.id, int(model.created or 0)) for model in models]
