"""Usage of a Messages stream, merged from its events."""

from __future__ import annotations

import msgspec
import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.anthropic.usage import UsageMembers
from modelplex.dialects.core.quota import MAX_COUNTS, MAX_HELD, Quota


def _raw(**members: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def test_later_counts_replace_earlier_ones_and_null_does_not() -> None:
    members = UsageMembers(Quota())
    assert (members.usage, members.tier) == (None, None)
    members.merge(_raw(input_tokens=5, output_tokens=1, service_tier="standard"))
    members.merge(_raw(output_tokens=9, input_tokens=None))
    members.merge(None)
    usage = members.usage
    assert usage is not None
    assert (usage.fresh, usage.output, members.tier) == (5, 9, "default")
    assert msgspec.json.decode(usage.raw or b"") == {
        "input_tokens": 5,
        "output_tokens": 9,
        "service_tier": "standard",
    }
    assert repr(members) == "<UsageMembers ['input_tokens', 'output_tokens', 'service_tier']>"


def test_an_unknown_tier_keeps_its_name_and_another_type_is_none() -> None:
    members = UsageMembers(Quota())
    members.merge(_raw(service_tier="batch"))
    assert members.tier == "batch"
    members.merge(_raw(service_tier=5))
    assert members.tier is None


def test_what_is_kept_is_bounded() -> None:
    members = UsageMembers(Quota())
    with pytest.raises(UpstreamBroken, match="usage"):
        members.merge(_raw(**{f"n{n}": n for n in range(MAX_COUNTS + 1)}))
    full = Quota()
    full.held = MAX_HELD
    with pytest.raises(UpstreamBroken):
        UsageMembers(full).merge(_raw(input_tokens=1))
