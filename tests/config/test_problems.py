"""The report of a config error."""

import pytest

from modelplex.config import ConfigError, ConfigFault
from tests.config.configs import read


def test_a_report_of_several_faults_counts_them() -> None:
    with pytest.raises(ConfigError) as caught:
        read("a = 1\nb = 2")
    assert caught.value.sentence.splitlines()[0] == "the config has 2 faults"
    assert caught.value.sentence.count("config.toml:") == 2


def test_a_fault_shows_its_place_and_what_is_known() -> None:
    whole = ConfigFault("f", None, "", expected="a file", hint="make one")
    assert str(whole) == "f: expected a file; make one"
    assert str(ConfigFault("f", 2, "a.b", expected="x", found="y")) == "f:2: a.b: expected x, found y"


def test_faults_are_sorted_by_line_and_a_single_one_is_its_own_report() -> None:
    second, first = (ConfigFault("f", line, "k", expected="x") for line in (9, None))
    error = ConfigError([second, first])
    assert error.faults == (first, second)
    assert str(error) == "f: k: expected x\nf:9: k: expected x"
    assert ConfigError([second]).sentence == "f:9: k: expected x"
