"""All checks together."""

from __future__ import annotations

import re
from pathlib import Path

from modelplex.config import lint
from tests.config.lint.findings import DEMO, OPENAI, found


def test_a_good_config_has_no_findings(here: Path) -> None:
    text = (
        '[server]\nhttp = "127.0.0.1:0"\nsocket = "./m.socket"\n'
        + OPENAI
        + DEMO
        + '[aliases]\nfast = ["openai/gpt-4o", "demo"]\n"claude-*" = "gpt-4o"\n'
        + '[[agents]]\nname = "a"\nsocket = "./a.socket"\nmodels = ["fast", "gpt-*"]\n'
        + '[mcp]\nenabled = true\nservers = [ { name = "sh", command = "sh" } ]\n'
    )
    assert found(text) == []


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    source = "".join(path.read_text() for path in Path(lint.__file__).parent.glob("*.py"))
    codes = {*re.findall(r'"((?:[a-z]+-)+[a-z]+)",', source), *re.findall(r'code="([a-z-]+)"', source)}
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md").read_text()
    section = page.partition("### Findings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == codes
