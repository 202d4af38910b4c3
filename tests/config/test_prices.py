"""The table [[prices]]."""

import pytest

from modelplex.config import (
    PriceConfig,
)
from tests.config.configs import fault, read

PRICED = '[[providers]]\ntype = "demo"\n[[prices]]\nmodel = "m"\ninput = 1\noutput = 2.5\n'


def test_prices_are_read() -> None:
    (entry,) = read(PRICED + 'provider = "demo"\ncached_input = 0\n').prices
    assert entry == PriceConfig(model=("m",), provider="demo", input=1.0, output=2.5, cached_input=0.0)
    assert read(PRICED.replace('"m"', '["a", "b-*"]')).prices[0].model == ("a", "b-*")


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (
            PRICED.replace("input = 1\n", ""),
            "prices[0].input: expected US dollars per million tokens of input",
        ),
        (PRICED.replace("input = 1\n", "input = -1\n"), "a number from 0 to"),
        (PRICED.replace("input = 1\n", "input = nan\n"), "a number from 0 to"),
        (PRICED.replace("input = 1\n", "input = true\n"), "a number from 0 to"),
        (PRICED.replace('model = "m"\n', "model = []\n"), "found an empty list"),
        (PRICED + 'provider = "dmo"\n', 'did you mean "demo"?'),
        (PRICED + "per_call = 1\n", "per_call"),
        (PRICED.replace("[[prices]]", "[prices]"), "each begins with [[prices]]"),
    ],
)
def test_invalid_prices_are_rejected(text: str, report: str) -> None:
    assert report in fault(text)
