"""Bounds of opened rules that contradict each other, or apply to nobody."""

from __future__ import annotations

from pathlib import Path

from tests.config.lint.findings import DEMO, Found, found


def test_disjoint_bounds(here: Path) -> None:
    bound = '{{ rule = "web-search", domains = ["{}"] }}'.format
    text = (
        DEMO
        + f"[policy.allow]\nsocket = [{bound('example.com')}]\n"
        + f'[[agents]]\nname = "a"\nsocket = "./a.socket"\nallow = [{bound("example.org")}]\n'
        + f'[[agents]]\nname = "b"\nsocket = "./b.socket"\nallow = [{bound("docs.example.com")}]\n'
    )
    assert found(text) == [Found("warning", "bounds-apart", 8, "agents[0].allow")]
    assert found(text.replace("example.org", "a.example.com")) == []


def test_unused_bounds(here: Path) -> None:
    bound = '[{ rule = "web-search", max_uses = 1 }]'
    agent = '[[agents]]\nname = "a"\nsocket = "./a.socket"\n'
    assert found(f"[policy.allow]\nhttp = {bound}\n{DEMO}") == [
        Found("error", "bounds-unused", 2, "policy.allow.http")
    ]
    assert found(f'[policy]\nhttp = "sealed"\n[policy.allow]\nhttp = {bound}\n{DEMO}') == []
    assert found(f'{DEMO}{agent}policy = "open"\nallow = {bound}\n') == [
        Found("error", "bounds-unused", 7, "agents[0].allow")
    ]
    assert found(f"{DEMO}{agent}allow = {bound}\n") == []
    assert found(f'[policy]\nsocket = "open"\n{DEMO}allow = {bound}\n') == [
        Found("error", "bounds-unused", 5, "providers[0].allow")
    ]
    sealed = f'[policy]\nsocket = "open"\n{DEMO}allow = {bound}\n{agent}policy = "sealed"\n'
    assert found(sealed) == []
