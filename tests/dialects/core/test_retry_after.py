"""How long a provider asks to be left alone, in each of the ways in which services say it."""

import pytest

from modelplex.dialects.core.retry_after import read_delay, read_seconds
from modelplex.dialects.registry import provider_dialect
from tests.dialects.sides import all_dialects

NOW = "Sun, 22 Nov 2026 12:00:00 GMT"
LATER = "Sun, 22 Nov 2026 12:00:07 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": LATER, "date": NOW}, 7.0),
        ({"retry-after": NOW, "date": LATER}, 0.0),
        ({"retry-after": LATER}, None),
        ({"retry-after": "tomorrow", "date": NOW}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_a_delay_is_as_given_and_never_made_up(headers: dict[str, str], seconds: float | None) -> None:
    assert read_delay(headers) == seconds


def test_a_number_is_one_that_can_be_waited_for() -> None:
    assert [read_seconds(text) for text in ("1.5", "", "x", "-0.1", "1e400")] == [1.5, None, None, None, None]


@pytest.mark.parametrize("dialect", [name for name, d in all_dialects().items() if d.provider])
def test_every_dialect_reads_a_date(dialect: str) -> None:
    headers = {"retry-after": LATER, "date": NOW}
    error = provider_dialect(dialect).read_error(429, headers, b"{}")
    assert error.retry_after == 7.0
