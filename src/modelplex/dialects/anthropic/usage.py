"""Reads the usage object of Messages.

A stream reports usage in several events, whose members are merged. The merged object is kept and
returned unchanged to a client of the same dialect (docs/reference/translation.md#r14).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.events import Iteration, Usage
from modelplex.dialects.anthropic.messages_out import DIALECT
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.quota import PIECE, Quota, check_counts
from modelplex.dialects.core.usage import count

TIERS = {"standard": "default"}
"""`service_tier` in OpenAI's words; the others have the same name in both
(docs/reference/translation.md#caching-identity-and-tier).
"""


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Counts(msgspec.Struct, gc=False):
    """Counts of a usage object, or of one entry of its `iterations`."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: int | None = None


class _Iteration(_Counts):
    model: str | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class _Tokens(_Counts):
    output_tokens_details: _OutputDetails | None = None
    iterations: list[_Iteration] | None = None
    server_tool_use: _ServerTools | None = None


class UsageMembers:
    """The members of `usage` in all events of a stream so far; later values replace earlier ones.
    What is kept counts against `quota`.
    """

    __slots__ = ("_members", "_quota")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._members: dict[str, msgspec.Raw] = {}

    def __repr__(self) -> str:
        return f"<UsageMembers {sorted(self._members)}>"

    def merge(self, usage: Mapping[str, msgspec.Raw] | None) -> None:
        """Raises UpstreamBroken for more members than are kept."""
        if not usage:
            return
        given = {name: value for name, value in usage.items() if is_given(value)}
        self._quota.take(sum(map(len, given.values())) + PIECE * len(given))
        self._members |= given
        check_counts(len(self._members))

    @property
    def usage(self) -> Usage | None:
        """All that was counted so far, or None where nothing was."""
        return read_usage(self._members) if self._members else None

    @property
    def tier(self) -> str | None:
        raw = self._members.get("service_tier")
        tier = msgspec.json.decode(raw) if raw is not None else None
        return TIERS.get(tier, tier) if isinstance(tier, str) else None


def read_usage(members: dict[str, msgspec.Raw]) -> Usage:
    """What is billed; `raw` is the whole object. A member of another shape counts as absent."""
    raw = msgspec.json.encode(members)
    try:
        tokens = msgspec.json.decode(raw, type=_Tokens)
    except msgspec.ValidationError:
        tokens = _valid(members)
    details, tools = tokens.output_tokens_details, tokens.server_tool_use
    top, iterations = _iteration(tokens), tuple(_iteration(each) for each in tokens.iterations or ())
    billed = _billed(top, iterations)
    return Usage(
        fresh=billed.fresh,
        cache_read=billed.cache_read,
        cache_write=billed.cache_write,
        cache_write_1h=billed.cache_write_1h,
        output=billed.output,
        reasoning=count(details.thinking_tokens) if details is not None else 0,
        web_searches=count(tools.web_search_requests) if tools is not None else 0,
        iterations=iterations if len(iterations) > 1 and billed == _sum(iterations) else (),
        raw=raw,
        raw_of=DIALECT,
    )


def _valid(members: dict[str, msgspec.Raw]) -> _Tokens:
    tokens = _Tokens()
    for field in msgspec.structs.fields(_Tokens):
        if field.name in members:
            try:
                setattr(tokens, field.name, msgspec.json.decode(members[field.name], type=field.type))
            except msgspec.ValidationError:
                continue
    return tokens


def _iteration(counts: _Counts) -> Iteration:
    lives = counts.cache_creation or _CacheCreation()
    hour, minutes = count(lives.ephemeral_1h_input_tokens), count(lives.ephemeral_5m_input_tokens)
    written = counts.cache_creation_input_tokens
    return Iteration(
        model=(counts.model or "") if isinstance(counts, _Iteration) else "",
        fresh=count(counts.input_tokens),
        cache_read=count(counts.cache_read_input_tokens),
        cache_write=hour + minutes if written is None else count(written),
        cache_write_1h=hour,
        output=count(counts.output_tokens),
    )


def _sum(iterations: tuple[Iteration, ...]) -> Iteration:
    return Iteration(
        fresh=sum(one.fresh for one in iterations),
        cache_read=sum(one.cache_read for one in iterations),
        cache_write=sum(one.cache_write for one in iterations),
        cache_write_1h=sum(one.cache_write_1h for one in iterations),
        output=sum(one.output for one in iterations),
    )


def _billed(top: Iteration, iterations: tuple[Iteration, ...]) -> Iteration:
    """The top-level counts leave out what compaction and other models took; the sum of `iterations`
    is what is billed. https://platform.claude.com/docs/en/build-with-claude/compaction
    """
    each = _sum(iterations)
    return Iteration(
        fresh=max(top.fresh, each.fresh),
        cache_read=max(top.cache_read, each.cache_read),
        cache_write=max(top.cache_write, each.cache_write),
        cache_write_1h=max(top.cache_write_1h, each.cache_write_1h),
        output=max(top.output, each.output),
    )
