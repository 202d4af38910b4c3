"""Where a provider is, as far as the sealed policy asks."""

import pytest

from modelplex.config import Config, ProviderConfig
from modelplex.policing import egress_of


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
