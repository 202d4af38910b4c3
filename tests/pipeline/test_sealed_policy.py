"""Where a provider is, as far as the sealed policy asks."""

import pytest

from modelplex.config import Config, ProviderConfig
from modelplex.pipeline.sealed_policy import egress_of


@pytest.mark.parametrize(
    ("kind", "url", "moved"),
    [
        ("openai", "https://api.openai.com/v1", False),
        ("openai", "https://eu.api.openai.com/v1", False),
        ("openai", "https://api.openai.com.example.org/v1", True),
        ("openai", "https://myapi.openai.com", True),
        ("openai", "http://127.0.0.1:8000/v1", True),
        ("openai", "unix:/run/server.sock:/v1", True),
        ("azure", "https://mine.openai.azure.com", False),
    ],
)
def test_a_provider_at_another_address_than_its_types_is_known(kind: str, url: str, moved: bool) -> None:
    config = Config(providers=(ProviderConfig(name="up", type=kind, base_url=url),))
    assert egress_of(config, machine=b"m").moved == (frozenset({"up"}) if moved else frozenset())


def test_an_aliass_target_spells_a_model_of_the_provider_that_it_names_alone() -> None:
    names = ("openai", "openrouter")
    providers = tuple(ProviderConfig(name=name, type=name, models=("*",)) for name in names)
    config = Config(providers=providers, aliases={"a": ("openai/x-search", "bare", "other/y")})
    spelled = egress_of(config, machine=b"m").spelled
    assert ("openai", "x-search") in spelled
    assert {name for name, model in spelled if model.endswith("x-search")} == {"openai"}
    assert {name for name, model in spelled if model in {"bare", "other/y"}} == set(names)
