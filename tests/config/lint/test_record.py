"""Settings of the record that have no effect."""

from __future__ import annotations

import pytest

from tests.config.lint.findings import DEMO, Found, found


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_token_ids_are_kept_with_bodies(content: str) -> None:
    text = f'[record]\ncontent = "{content}"\ntokens = true\n{DEMO}'
    assert found(text) == [Found("error", "tokens-without-bodies", 3, "record.tokens")]


@pytest.mark.parametrize("rows", ['content = "full"\ntokens = true', "tokens = true", 'content = "off"'])
def test_settings_with_an_effect_are_no_finding(rows: str) -> None:
    assert found(f"[record]\n{rows}\n{DEMO}") == []
