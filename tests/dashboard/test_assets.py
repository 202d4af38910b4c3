"""The files of the page: small, complete, and without a way from a string to HTML."""

from __future__ import annotations

import re

import pytest

from modelplex.dashboard.assets import COMMON, FOLDER, POLICY, TYPES, find

FILES = sorted(FOLDER.iterdir())
MOST_BYTES = 150_000


def test_the_page_is_under_150_kb_in_all() -> None:
    assert {file.suffix for file in FILES} <= set(TYPES)
    assert sum(file.stat().st_size for file in FILES) < MOST_BYTES


@pytest.mark.parametrize("name", ["", "..", "../page.py", "/etc/passwd", "nothing.js", "static"])
def test_nothing_else_is_a_file_of_the_page(name: str) -> None:
    assert find(name) is None


def test_a_file_has_its_type_and_a_tag_of_its_bytes() -> None:
    asset = find("app.css")
    assert asset is not None
    headers = dict(asset.headers())
    assert headers[b"content-type"] == b"text/css; charset=utf-8"
    assert headers[b"etag"] == f'"{asset.tag}"'.encode()
    assert set(COMMON) <= set(asset.headers())


def test_the_policy_allows_own_files_only_and_no_string_as_html() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.decode().split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert rules["trusted-types"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"


SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|createContextualFragment"
    r"|\beval\b|new Function|setAttribute\(.on|javascript:|https?://(?!www\.w3\.org/2000/svg)"
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_has_a_sink_of_strings_or_names_another_host(file: object) -> None:
    text = (FOLDER / str(getattr(file, "name", ""))).read_text()
    assert SINKS.findall(text) == []
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", text) == []


def test_each_import_and_link_of_a_file_leads_to_a_file() -> None:
    names = {file.name for file in FILES}
    for file in FILES:
        text = file.read_text()
        found = re.findall(r'from "\./([^"]+)"|import\("\./([^"]+)"\)|static/([\w.-]+)"', text)
        assert {name for row in found for name in row if name} <= names, file.name
