"""What `modelplex init` finds: keys in the environment, Ollama, and installed agents."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from modelplex.config import ConfigError, ProviderConfig, TypeFacts, load_without_file, provider_types
from modelplex.config.detected import DEMO, OLLAMA
from modelplex.config.read import parse
from modelplex.sandbox.found_models import DEFAULTS, list_ollama
from modelplex.sandbox.preset import find_preset, load_preset, preset_names

DEMO_MODEL: Final = "demo/demo"


class FoundProvider(msgspec.Struct, frozen=True):
    """`source` says where it was found; `model` is one that calls tools, as an alias's target, and
    "" where none is known. `variable` holds its key, if it has one; `base_url` is for Ollama alone.
    """

    name: str
    source: str
    model: str = ""
    variable: str = ""
    base_url: str = ""


class FoundAgent(msgspec.Struct, frozen=True):
    """An installed agent: the name of its preset, and the model that it requests by itself."""

    preset: str
    title: str
    model: str


class Found(msgspec.Struct, frozen=True):
    """`providers` by the order in which they are offered, without the demo."""

    providers: tuple[FoundProvider, ...]
    agents: tuple[FoundAgent, ...]


def find_all(environ: Mapping[str, str] = os.environ) -> Found:
    """Waits at most some seconds for Ollama. Raises ConfigError for a faulty preset of the user."""
    types = provider_types()
    providers = load_without_file(environ, types=types).providers
    found = [_found(each, types) for each in providers if each.type != DEMO]
    return Found(tuple(found), find_agents(environ))


def find_agents(
    environ: Mapping[str, str], *, which: Callable[[str], str | None] = shutil.which
) -> tuple[FoundAgent, ...]:
    found: list[FoundAgent] = []
    for name in preset_names(environ):
        if (file := find_preset(name, environ=environ)) is None:
            continue
        preset = load_preset(file)
        if any(map(which, preset.programs)):
            found.append(FoundAgent(name, preset.title, preset.model.default))
    return tuple(found)


def provider_of(name: str, types: Mapping[str, TypeFacts]) -> FoundProvider | None:
    """A type of provider that was asked for, and was not found. None where there is no such type,
    or where it has no address of its own.
    """
    facts = types.get(name)
    if facts is None or facts.needs_base_url:
        return None
    if name == DEMO:
        return FoundProvider(DEMO, "built in and offline; its responses are made up", DEMO_MODEL)
    variable = (facts.key_env or "") if facts.needs_key else ""
    if not _is_enough(name, variable):
        return None
    model = f"{name}/{DEFAULTS[name]}" if name in DEFAULTS else ""
    return FoundProvider(
        name, f"{variable} is not set here" if variable else "does not answer now", model, variable
    )


def _is_enough(name: str, variable: str) -> bool:
    """Whether a key is all that a config must say of this type."""
    key = f'api_key = "${{{variable}}}"' if variable else ""
    text = f'[[providers]]\nname = "{name}"\ntype = "{name}"\n{key}\n'
    try:
        parse(
            text.encode(), file="", environ={variable: "x"}, types=provider_types(), find_ollama=lambda: False
        )
    except ConfigError:
        return False
    return True


def _found(provider: ProviderConfig, types: Mapping[str, TypeFacts]) -> FoundProvider:
    name, address = provider.name, provider.base_url or ""
    if provider.type == OLLAMA:
        models = list_ollama(address)
        model = f"{OLLAMA}/{models[0]}" if models else ""
        return FoundProvider(
            name, f"answers at {address}, with {_models(len(models))}", model, base_url=address
        )
    variable = types[provider.type].key_env or ""
    model = f"{name}/{DEFAULTS[name]}" if name in DEFAULTS else ""
    return FoundProvider(name, f"its key is in {variable}", model, variable)


def _models(number: int) -> str:
    return "1 model" if number == 1 else f"{number or 'no'} models"
