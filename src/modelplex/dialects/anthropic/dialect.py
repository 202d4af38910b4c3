"""Anthropic Messages: the Dialect values, for clients and for providers.

Here are the model list of a provider, the headers that belong to the dialect, and the values that
the registry lists. Source: Anthropic's API reference and the types of its Python SDK;
docs/reference/wire-formats.md#messages and #errors-and-retry-headers and the MSG columns of
docs/reference/translation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import ListedModel
from modelplex.dialects.anthropic import fields, forms, policy, strip_foreign
from modelplex.dialects.anthropic.betas import allowed_betas, sealed_headers
from modelplex.dialects.anthropic.errors import error_event, read_error, write_error
from modelplex.dialects.anthropic.listings import read_count, write_count, write_model, write_models
from modelplex.dialects.anthropic.passthrough import observe, observer
from modelplex.dialects.anthropic.refused_betas import refused_betas
from modelplex.dialects.anthropic.request_in import read_call
from modelplex.dialects.anthropic.request_out import write_call
from modelplex.dialects.anthropic.response_in import AnthropicStreamReader, read_response
from modelplex.dialects.anthropic.response_out import PING, AnthropicStreamWriter, write_response
from modelplex.dialects.dialect import (
    ClientDialect,
    Dialect,
    Headers,
    PassthroughDialect,
    ProviderDialect,
    StreamFraming,
)
from modelplex.policy.judge import PolicyTable

__all__ = [
    "COUNT",
    "MESSAGES",
    "PING",
    "AnthropicStreamReader",
    "AnthropicStreamWriter",
    "error_event",
    "observe",
    "observer",
    "read_call",
    "read_count",
    "read_error",
    "read_models",
    "read_response",
    "write_call",
    "write_count",
    "write_error",
    "write_model",
    "write_models",
    "write_response",
]


class _Listed(msgspec.Struct, gc=False):
    id: str
    created_at: str | None = None


class _List(msgspec.Struct, gc=False):
    data: list[_Listed]


def read_models(body: bytes) -> list[ListedModel]:
    """One page of `GET /v1/models`; a page holds up to 1000 when asked with `?limit=1000`. Raises
    UpstreamBroken.
    """
    try:
        listed = msgspec.json.decode(body, type=_List).data
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UpstreamBroken(f"The provider's list of models is not what it should be: {error}") from error
    return [ListedModel(model.id, _seconds(model.created_at)) for model in listed]


def _seconds(date: str | None) -> int:
    """RFC 3339 as Unix seconds; 0 where there is none, or one of before 1970 as a placeholder."""
    try:
        return max(0, int(datetime.fromisoformat(date or "").timestamp()))
    except ValueError:
        return 0


def version_headers(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The API version and the betas of a request, as far as they may go to a provider of Messages.
    Of several versions the first one goes: a provider needs exactly one.
    """
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name == b"anthropic-version":
            if all(known != name for known, _ in kept):
                kept.append((name, value))
        elif name == b"anthropic-beta" and (betas := allowed_betas(value.decode("latin-1"))):
            kept.append((name, betas.encode("latin-1")))
    return tuple(kept)


# --- the values

_POLICY = PolicyTable(fields.FIELDS.policy, policy.FINISH)

MESSAGES = Dialect(
    form=forms.MESSAGES,
    conversation=fields.FIELDS.members_of("messages"),
    leaf_of=fields.FIELDS.leaf_of,
    policy=_POLICY,
    request_headers=version_headers,
    sealed_headers=sealed_headers,
    refused_headers=refused_betas,
    opaque_members=(b'"signature"', b'"redacted_thinking"'),
    stored_members=(b'"file_id"', b'"container"'),
    strip_foreign=strip_foreign.strip,
    client_run_tools=("bash_", "text_editor_", "memory_", "computer_", "browser_toolset_"),
    client=ClientDialect(read_call=read_call, write_response=write_response, writer=AnthropicStreamWriter),
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=AnthropicStreamReader,
        read_error=read_error,
        read_models=read_models,
    ),
    passthrough=PassthroughDialect(
        observer=observer,
        observe=observe,
        framing=StreamFraming(
            "text/event-stream",
            PING,
            lambda error, request_id: error_event(error, request_id=request_id),
        ),
    ),
    write_error=write_error,
    request_id_header=b"request-id",
    write_models=write_models,
    write_model=lambda name, _: write_model(name),
)
COUNT = Dialect(
    form=forms.COUNT,
    policy=_POLICY,
    variant_of=MESSAGES,
    stream="never",
    request_headers=version_headers,
    sealed_headers=sealed_headers,
    refused_headers=refused_betas,
    write_count=lambda tokens: write_count(tokens, estimated=True),
)

DIALECTS = (MESSAGES, COUNT)
