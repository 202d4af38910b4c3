"""What an agent's models are mapped to where there is no config: a key in the environment, Ollama,
or the demo.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from modelplex.config.detected import DEMO, OLLAMA

if TYPE_CHECKING:
    from modelplex.config import Config, ProviderConfig, TypeFacts
    from modelplex.sandbox.preset import Preset

EVERY_NAME: Final = "*"
"""The alias of names that nothing else serves."""
DEFAULTS: Final[Mapping[str, str]] = {
    "anthropic": "claude-sonnet-5-5",
    "openai": "gpt-5.6-terra",
    "gemini": "gemini-3.8-flash",
    "openrouter": "~anthropic/claude-sonnet-latest",
    "mistral": "mistral-medium-latest",
    "deepseek": "deepseek-v4-pro",
    "xai": "grok-4.7",
    "groq": "openai/gpt-oss-120b",
    "cerebras": "zai-glm-4.7",
    "together": "zai-org/GLM-5.3",
    "moonshot": "kimi-k2.7-code",
    "zai": "GLM-5.3",
}
"""A model of each type of provider that calls tools. A test compares them with the price list."""
LIST_TIMEOUT_S: Final = 2.0
MAX_LIST: Final = 4_000_000
"""Bytes of Ollama's list of models."""


class FoundModel(NamedTuple):
    """`target` is an alias's value, such as `ollama/llama3.2`; `source` says where it was found."""

    target: str
    source: str
    serves_default: bool
    """Whether the provider serves what the agent requests by itself, so that only other names are
    mapped.
    """


def find_model(
    providers: Sequence[ProviderConfig],
    preset: Preset,
    *,
    types: Mapping[str, TypeFacts],
    list_ollama: Callable[[str], list[str]],
) -> FoundModel | None:
    """The provider of the agent's own models where there is one, else the first with a known model.
    `providers` are those found, by priority; `list_ollama` is given an address. None where nothing
    is found.
    """
    ordered = sorted(providers, key=lambda each: (each.type != preset.model.provider, each.priority))
    for provider in ordered:
        variable = types[provider.type].key_env
        if provider.type == OLLAMA:
            if models := list_ollama(provider.base_url or ""):
                return FoundModel(f"{OLLAMA}/{models[0]}", f"Ollama at {provider.base_url}", False)
        elif provider.type == DEMO:
            return FoundModel(f"{DEMO}/{DEMO}", "the built-in demo, whose responses are made up", False)
        elif model := DEFAULTS.get(provider.type):
            is_own = provider.type == preset.model.provider
            return FoundModel(f"{provider.name}/{model}", f"the key in {variable}", is_own)
    return None


def model_of_config(
    config: Config, preset: Preset, *, globs: Sequence[str], types: Mapping[str, TypeFacts]
) -> str | None:
    """A model to request instead of the agent's default, which this config does not serve. None
    where it does, or may, and where none is known. `globs` are the models of its entry in
    [[agents]].
    """
    default = preset.model.default
    allowed = [default] if not globs or any(fnmatchcase(default, glob) for glob in globs) else []
    if allowed and _may_serve(config, default, preset, types=types):
        return None
    names = [name for name in config.aliases if name != EVERY_NAME]
    for each in sorted(config.providers, key=lambda each: each.priority):
        names += [name for name in each.models if not set(name) & set("*?[")]
        if not each.models and each.type in DEFAULTS and each.base_url == _own_address(types[each.type]):
            names.append(DEFAULTS[each.type])
        if each.type == DEMO:
            names.append(DEMO)
    return next((name for name in names if not globs or any(fnmatchcase(name, g) for g in globs)), None)


def _may_serve(config: Config, name: str, preset: Preset, *, types: Mapping[str, TypeFacts]) -> bool:
    if EVERY_NAME in config.aliases or name in config.aliases:
        return True
    for each in config.providers:
        if each.models:
            if any(fnmatchcase(name, glob) for glob in each.models):
                return True
        elif each.type == preset.model.provider or each.base_url != _own_address(types[each.type]):
            return True  # a server that lists its models, which may have this one
    return False


def list_ollama(address: str) -> list[str]:
    """The names of its models, the one changed last first; none where it does not answer."""
    try:
        with urllib.request.urlopen(f"{address}/api/tags", timeout=LIST_TIMEOUT_S) as reply:  # noqa: S310
            found = json.loads(reply.read(MAX_LIST))
        return [str(model["name"]) for model in found["models"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def config_text(target: str) -> str:
    """A config that serves what is found, with this target for every other name."""
    return f'[aliases]\n"*" = {json.dumps(target)}\n'


def mapping_line(title: str, default: str, found: FoundModel) -> str:
    what = (
        f"models that {found.target.partition('/')[0]} does not serve" if found.serves_default else "models"
    )
    own = f" ({default})" if not found.serves_default else ""
    return f"there is no config.toml here: {title}'s {what}{own} are mapped to {found.target}: {found.source}"


def _own_address(facts: TypeFacts) -> str:
    return (facts.default_base_url or "").rstrip("/")
