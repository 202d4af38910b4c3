"""The commands that read no config run without one, and without importing the gateway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelplex import cli


@pytest.mark.parametrize(
    ("words", "begin"), [(["completion", "zsh"], "#compdef modelplex"), (["man"], ".TH MODELPLEX")]
)
def test_a_script_is_printed(
    words: list[str],
    begin: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("faulty")
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith(begin)


def test_completions_load_little() -> None:
    code = (
        "import sys; from modelplex import cli; cli.main(['completion', 'bash'])\n"
        "sys.exit(' '.join({'msgspec', 'asyncio', 'difflib', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr.strip() == ""
