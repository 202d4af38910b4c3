"""How much of a stream is kept."""

import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.core.quota import (
    ENTRY,
    MAX_CHOICES,
    MAX_COUNTS,
    MAX_HELD,
    PIECE,
    Quota,
    check_counts,
    choice_of,
)


def test_the_limit_itself_is_allowed_and_one_more_is_not() -> None:
    quota = Quota()
    quota.take(MAX_HELD)
    with pytest.raises(UpstreamBroken):
        quota.take(1)


def test_a_text_costs_its_memory() -> None:
    quota = Quota()
    quota.take_text("abcd")
    quota.take_text("äbcd")
    quota.take_entry("name")
    assert quota.held == (PIECE + 4) + (PIECE + 4 * 4) + (ENTRY + 4)


def test_choices_and_counts_have_limits() -> None:
    assert (choice_of(None), choice_of(MAX_CHOICES - 1)) == (0, MAX_CHOICES - 1)
    for index in (-1, MAX_CHOICES):
        with pytest.raises(UpstreamBroken):
            choice_of(index)
    check_counts(MAX_COUNTS)
    with pytest.raises(UpstreamBroken):
        check_counts(MAX_COUNTS + 1)
