from __future__ import annotations

from modelplex.config import provider_types
from modelplex.config.read import parse
from modelplex.first_config.found import FoundAgent, FoundProvider, provider_of
from modelplex.first_config.text import config_text


def test_every_type_without_an_address_makes_a_valid_config() -> None:
    types = provider_types()
    providers = [found for name in types if (found := provider_of(name, types)) is not None]
    assert len(providers) > 10
    text = config_text(providers, fallback=providers[0].model)
    environ = {each.variable: "x" for each in providers}
    config = parse(text.encode(), file="config.toml", environ=environ, types=types, find_ollama=lambda: False)
    assert [each.name for each in config.providers] == [each.name for each in providers]


def test_agents_are_named_beside_the_fallback() -> None:
    text = config_text(
        [FoundProvider("demo", "built in")],
        fallback="demo/demo",
        agents=[FoundAgent("codex", "Codex", "gpt-5.5")],
    )
    assert "#   Codex: gpt-5.5\n[aliases]\n" in text
    assert "[aliases]" not in config_text([FoundProvider("demo", "built in")], fallback="")
