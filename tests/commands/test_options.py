"""The arguments of the commands that read the record."""

from __future__ import annotations

import pytest

from modelplex.command_options import parse
from modelplex.commands import options


@pytest.mark.parametrize("name", sorted(options.NAMES - options.NO_STORE))
def test_each_command_reads_another_store(name: str) -> None:
    words = {"show": ["run-1"], "export": ["run-1"], "verify": ["run-1"], "certify": ["run-1"]}.get(name, [])
    parsed = parse([name, *words, "--store", "other.sqlite", "--config", "c.toml"])
    assert (parsed.command, parsed.store, parsed.config) == (name, "other.sqlite", "c.toml")


def test_formats_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["usage", "--json", "--csv"], ["export", "run-1", "--format", "xml"]):
        with pytest.raises(SystemExit):
            parse(words)
    assert "not allowed with" in capsys.readouterr().err
