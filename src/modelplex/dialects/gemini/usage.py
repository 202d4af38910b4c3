"""Reads and writes Gemini's usage and log probabilities.

The prompt's count includes cached tokens, the candidates' count excludes reasoning
(docs/reference/wire-formats.md#gemini and docs/reference/translation.md#usage). The provider's
usage object is kept and returned unchanged to a client of the same dialect (R14).
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.events import Usage
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.usage import count
from modelplex.dialects.gemini.json import DIALECT


class _Modality(msgspec.Struct, rename="camel", gc=False):
    modality: str = ""
    token_count: int | None = None


class _Tokens(msgspec.Struct, rename="camel", gc=False):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None


_decode = msgspec.json.Decoder(_Tokens).decode


def read_usage(raw: msgspec.Raw) -> Usage | None:
    """The counts, or None where the object is absent, null or not one of counts."""
    if not is_given(raw):
        return None
    try:
        seen = _decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return None
    cached, thoughts = count(seen.cached_content_token_count), count(seen.thoughts_token_count)
    prompt, tools = count(seen.prompt_token_count), count(seen.tool_use_prompt_token_count)
    output = count(seen.candidates_token_count) + thoughts
    return Usage(
        fresh=max(0, prompt - cached) + tools,
        cache_read=cached,
        output=max(output, count(seen.total_token_count) - prompt - tools),
        reasoning=thoughts,
        input_audio=_of("AUDIO", seen.prompt_tokens_details),
        input_image=_of("IMAGE", seen.prompt_tokens_details),
        output_audio=_of("AUDIO", seen.candidates_tokens_details),
        output_image=_of("IMAGE", seen.candidates_tokens_details),
        raw=bytes(raw),
        raw_of=DIALECT,
    )


def _of(modality: str, details: list[_Modality] | None) -> int:
    return sum(count(each.token_count) for each in details or () if each.modality == modality)


def write_usage(usage: Usage) -> msgspec.Raw:
    """`usageMetadata`. Counts that are nothing are left out, as Google does; its own object goes
    back as it came.
    """
    if usage.raw is not None and usage.raw_of == DIALECT:
        return msgspec.Raw(usage.raw)
    written = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": max(0, usage.output - usage.reasoning),
    }
    if usage.cache_read:
        written["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        written["thoughtsTokenCount"] = usage.reasoning
    written["totalTokenCount"] = usage.input + usage.output
    return msgspec.Raw(msgspec.json.encode(written))


# --- log probabilities


class _Token(msgspec.Struct, rename="camel", gc=False):
    token: str = ""
    log_probability: float = 0.0


class _Top(msgspec.Struct, gc=False):
    candidates: list[_Token] | None = None


class _Result(msgspec.Struct, rename="camel", gc=False):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Top] | None = None


def read_logprobs(raw: msgspec.Raw) -> msgspec.Raw | None:
    """`logprobsResult` as token entries in OpenAI's chat form; None where there are none."""
    if not is_given(raw):
        return None
    try:
        result = msgspec.json.decode(raw, type=_Result)
    except (msgspec.DecodeError, UnicodeError):
        return None
    top = result.top_candidates or []
    entries: list[dict[str, Any]] = []
    for n, token in enumerate(result.chosen_candidates or ()):
        others = top[n].candidates or [] if n < len(top) else []
        entries.append({**_entry(token), "top_logprobs": [_entry(other) for other in others]})
    return msgspec.Raw(msgspec.json.encode(entries)) if entries else None


def _entry(token: _Token) -> dict[str, Any]:
    return {
        "token": token.token,
        "logprob": token.log_probability,
        "bytes": list(token.token.encode("utf-8", "replace")),
    }


class _OpenAIToken(msgspec.Struct, gc=False):
    token: str = ""
    logprob: float = 0.0
    top_logprobs: list[_OpenAIToken] | None = None


def write_logprobs(entries: msgspec.Raw) -> dict[str, Any] | None:
    """Token entries in OpenAI's chat form as `logprobsResult`; None where they are none."""
    try:
        tokens = msgspec.json.decode(entries, type=list[_OpenAIToken])
    except (msgspec.DecodeError, UnicodeError):
        return None
    return {
        "chosenCandidates": [_candidate(token) for token in tokens],
        "topCandidates": [
            {"candidates": [_candidate(other) for other in token.top_logprobs or ()]} for token in tokens
        ],
    }


def _candidate(token: _OpenAIToken) -> dict[str, Any]:
    return {"token": token.token, "logProbability": token.logprob}
