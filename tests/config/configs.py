"""A config from text, and the faults of one, with a few provider types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import pytest

from modelplex.config import Config, ConfigError, TypeFacts, parse


class Facts(msgspec.Struct, frozen=True):
    default_base_url: str | None = None
    needs_key: bool = False
    needs_base_url: bool = False
    key_env: str | None = None
    is_users_own: bool = False
    address_keys: tuple[str, ...] = ()
    address_env: Mapping[str, tuple[str, ...]] = {}
    credentials: Literal["", "aws", "gcp"] = ""
    added: tuple[str, ...] = ()

    def address(self, values: Mapping[str, str]) -> str:
        return f"https://{values['region']}.example/v1"


TYPES: Mapping[str, TypeFacts] = {
    "openai": Facts("https://api.openai.com/v1", needs_key=True, key_env="OPENAI_API_KEY"),
    "anthropic": Facts("https://api.anthropic.com", needs_key=True, key_env="ANTHROPIC_API_KEY"),
    "groq": Facts("https://api.groq.com/openai/v1", needs_key=True, key_env="GROQ_API_KEY"),
    "azure": Facts(needs_key=True, needs_base_url=True, is_users_own=True, key_env="AZURE_OPENAI_API_KEY"),
    "ollama": Facts("http://127.0.0.1:11434", key_env="OLLAMA_API_KEY"),
    "demo": Facts(),
}

KEY = "sk-very-secret"
DEMO = '[[providers]]\ntype = "demo"\n'


def read(text: str, **environ: str) -> Config:
    return parse(text.encode(), file="config.toml", environ=environ, types=TYPES)


def faults(text: str, **environ: str) -> list[str]:
    """The report, a line for each fault."""
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return [str(fault) for fault in caught.value.faults]


def fault(text: str, **environ: str) -> str:
    (only,) = faults(text, **environ)
    return only
