"""The manual page."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from modelplex.command_options import build_parser
from modelplex.commands.manual import man_page
from modelplex.commands.parser_rows import rows_of


def test_the_page_has_every_command_and_option() -> None:
    whole = rows_of(build_parser())
    page = man_page(whole, version="1.2.3")
    assert page.startswith('.TH MODELPLEX 1 "" "modelplex 1.2.3"')
    plain = page.replace("\\-", "-")
    for row in whole.all():
        if not row.commands:
            assert f'.SS "{row.name}"\n' in plain
        for option in row.options:
            assert f"\\fB{option.flags[-1]}\\fR" in plain


def test_no_text_is_a_request() -> None:
    row = rows_of(build_parser())._replace(description=".SH forged\n'back\\slash", commands=())
    page = man_page(row, version="1")
    assert "\n\\&.SH forged\n\\&'back\\eslash\n" in page


def test_a_formatter_has_no_complaint() -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    page = man_page(rows_of(build_parser()), version="1.2.3")
    lint = ["mandoc", "-T", "lint", "-W", "warning"]
    done = subprocess.run(lint, input=page, capture_output=True, text=True, timeout=30, check=False)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
