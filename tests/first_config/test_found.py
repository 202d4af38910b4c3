from __future__ import annotations

from pathlib import Path

from modelplex.config import provider_types
from modelplex.first_config.found import FoundAgent, FoundProvider, find_agents, find_all, provider_of
from tests.processes import NOWHERE

TYPES = provider_types()


def test_keys_are_found_by_their_variable_and_not_shown() -> None:
    found = find_all({**NOWHERE, "MISTRAL_API_KEY": "secret"})
    assert found.providers == (
        FoundProvider(
            "mistral", "its key is in MISTRAL_API_KEY", "mistral/mistral-medium-latest", "MISTRAL_API_KEY"
        ),
    )


def test_agents_are_those_whose_program_is_on_the_path(tmp_path: Path) -> None:
    found = find_agents(
        {"HOME": str(tmp_path)}, which=lambda name: f"/bin/{name}" if name == "codex" else None
    )
    assert found == (FoundAgent("codex", "Codex", "gpt-5.5"),)


def test_types_that_need_an_address_cannot_be_guessed() -> None:
    assert provider_of("azure", TYPES) is None
    assert provider_of("nothing", TYPES) is None
    demo = provider_of("demo", TYPES)
    assert demo is not None
    assert demo.model == "demo/demo"
    ollama = provider_of("ollama", TYPES)
    assert ollama is not None
    assert (ollama.variable, ollama.source) == ("", "does not answer now")
