"""Writes the response object: members that echo the request, and the response so far.

Strict clients require every echo, with a value that is not null where the type does not permit it
(docs/reference/wire-formats.md#responses, R49). Echoes are encoded once, since a stream has the
object three times. Imports no other dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import OVERFLOW, BadRequest, ModelplexError, QuotaExceeded, RateLimited
from modelplex.core.events import Usage
from modelplex.core.request import AnyTool, ChatRequest, FreeformTool, HostedTool, TextPart, Tool
from modelplex.dialects.core.json import encode
from modelplex.dialects.dialect import StoredContext
from modelplex.dialects.openai_responses.request_in import INSTRUCTIONS
from modelplex.dialects.openai_responses.tools import write_choice, write_custom, write_function, write_tools
from modelplex.dialects.openai_responses.usage import write_usage

_TIERS = {"standard": "default", "standard_only": "default", "auto": "default", "fast": "priority"}
"""By the tiers of other dialects, and by those that leave the choice to the provider."""
_SAMPLING: dict[str, int] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
}

_CODES: tuple[tuple[type[ModelplexError], str], ...] = (
    (QuotaExceeded, "insufficient_quota"),
    (RateLimited, "rate_limit_exceeded"),
    (BadRequest, "invalid_prompt"),
)
_OTHER = "server_error"


class ResponseObject:
    """The members that stay the same during a stream. `id` is the response's."""

    def __init__(self, call: ChatRequest, *, id: str, created: int, kept: StoredContext) -> None:
        self.id = id
        self._created = created
        self._tier = _TIERS.get(call.tier or "", call.tier) or "default"
        self._echoes = encode(_echoes(call, kept))[1:]

    def __repr__(self) -> str:
        return f"<ResponseObject {self.id} of {len(self._echoes)} bytes>"

    def write(
        self,
        status: str,
        *,
        model: str,
        output: list[Any],
        usage: Usage | None = None,
        tier: str | None = None,
        error: ModelplexError | None = None,
        reason: str | None = None,
    ) -> bytes:
        """The object as JSON. `reason`: why it is incomplete."""
        head: dict[str, Any] = {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "completed_at": None,
            "error": None if error is None else failure(error),
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": model,
            "output": output,
            "usage": None if usage is None else write_usage(usage),
            "service_tier": self._tier if tier is None else _TIERS.get(tier, tier),
        }
        return encode(head)[:-1] + b"," + self._echoes


def failure(error: ModelplexError) -> dict[str, str]:
    """`error` of a failed response. A provider's code stays as it is, since clients act on some;
    others become one of OpenAI's list.
    """
    own = error.code is not None and error.code in {error.upstream.code, OVERFLOW}
    code = (
        error.code
        if own and error.code is not None
        else next((code for kind, code in _CODES if isinstance(error, kind)), _OTHER)
    )
    return {"code": code, "message": error.message}


def _echoes(call: ChatRequest, kept: StoredContext) -> dict[str, Any]:
    sampling = {name: getattr(call.sampling, name) for name in _SAMPLING}
    extra = call.extra
    free = [tool.name for tool in call.tools if isinstance(tool, FreeformTool)]
    choice: object = "auto"
    if "tool_choice" in extra:
        choice = extra["tool_choice"]
    elif call.choice is not None:
        choice = write_choice(call.choice, free, lambda name: name)
    return {
        "instructions": _instructions(call),
        "tools": write_tools(call, _echo_tool),
        "tool_choice": choice,
        "parallel_tool_calls": True if call.parallel is None else call.parallel,
        **{name: _SAMPLING[name] if value is None else value for name, value in sampling.items()},
        "max_output_tokens": call.max_tokens,
        "max_tool_calls": extra.get("max_tool_calls"),
        "truncation": extra.get("truncation", "disabled"),
        "text": _text(call),
        "reasoning": _reasoning(call),
        "metadata": {} if call.metadata is None else call.metadata,
        "store": kept.store,
        "previous_response_id": kept.previous,
        "background": False,
        "safety_identifier": call.user if call.paths.get("user") == "safety_identifier" else None,
        "prompt_cache_key": call.cache_key,
    }


def _instructions(call: ChatRequest) -> str | None:
    for message in call.messages:
        if message.path == INSTRUCTIONS:
            return "".join(part.text for part in message.parts if isinstance(part, TextPart))
    return None


def _echo_tool(tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
    match tool:
        case HostedTool():
            return tool.raw
        case FreeformTool():
            return {**write_custom(tool, tool.name), **tool.extra}
        case Tool():
            return {"description": None, **write_function(tool, tool.name), **tool.extra}


def _text(call: ChatRequest) -> dict[str, Any]:
    wanted = call.format
    form: dict[str, Any] = {"type": "text"}
    if wanted is not None and wanted.kind == "json":
        form = {"type": "json_object"}
    elif wanted is not None and wanted.kind == "schema":
        form = {
            "type": "json_schema",
            "name": wanted.name or "answer",
            "schema": wanted.schema,
            "description": wanted.description,
            "strict": bool(wanted.strict),
        }
    return {"format": form} if call.verbosity is None else {"format": form, "verbosity": call.verbosity}


def _reasoning(call: ChatRequest) -> dict[str, Any] | None:
    if call.reasoning is None:
        return None
    return {"effort": call.reasoning.effort, "summary": call.reasoning.show}
