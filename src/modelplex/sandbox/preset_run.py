"""`modelplex run NAME`: turns a preset into the command, the home and the config of a run."""

from __future__ import annotations

import argparse
import os
import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from modelplex.sandbox.agent_home import AgentHome, prepare_home, working_tree
from modelplex.sandbox.bridge import command_of
from modelplex.sandbox.errors import WrongArguments
from modelplex.sandbox.found_models import (
    config_text,
    find_model,
    list_ollama,
    mapping_line,
    model_of_config,
)
from modelplex.sandbox.installed_release import installed_release, is_newer
from modelplex.sandbox.preset import Preset, fill, find_preset, load_preset, placeholders, preset_names


class PresetRun(NamedTuple):
    """`program` is the path of the installed one. `arguments` are the user's."""

    name: str
    preset: Preset
    program: str
    arguments: list[str]

    def prepare(
        self,
        *,
        home: str,
        folder: str,
        model: str | None,
        has_instructions: bool,
        sends_telemetry: bool = False,
    ) -> tuple[list[str], AgentHome]:
        """The command, and the home that it needs; `model` where another than the agent's own is
        chosen. Raises CannotRun.
        """
        preset = self.preset
        values = placeholders(home=home, folder=folder, model=model or preset.model.default)
        words = [*preset.arguments, *(preset.model.arguments if model is not None else ())]
        if working_tree(folder) is None:
            words += preset.arguments_outside_git
        prepared = prepare_home(
            self.name, preset, values, environ=os.environ, has_instructions=has_instructions
        )
        if model is not None:
            prepared.environ.update(
                {key: fill(text, values) for key, text in preset.model.environment.items()}
            )
        if sends_telemetry:
            prepared.environ.update({key: fill(text, values) for key, text in preset.telemetry.items()})
        return [self.program, *(fill(word, values) for word in words), *self.arguments], prepared


def choose_preset(arguments: argparse.Namespace) -> PresetRun | None:
    """The preset that the first word names. None for `-- COMMAND`, and for a word that names none.
    Raises WrongArguments where its program is not installed, and ConfigError.
    """
    if arguments.check or not arguments.command_line or arguments.command_line[0] == "--":
        return None
    name, *rest = arguments.command_line
    file = find_preset(name, environ=os.environ)
    if file is None:
        if "/" not in name and shutil.which(name) is None:
            raise WrongArguments(_unknown(name))
        return None
    preset = load_preset(file)
    program = next(filter(None, map(shutil.which, preset.programs)), None)
    if program is None:
        raise WrongArguments(
            f"{preset.title} is not installed, or not on the PATH ({' or '.join(preset.programs)}): {preset.install} ({preset.docs})"
        )
    return PresetRun(name, preset, str(Path.cwd() / program), command_of(rest))


def _unknown(name: str) -> str:
    names = preset_names(os.environ)
    near = get_close_matches(name, names, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"the presets are {', '.join(names)}"
    return f'there is no preset and no program "{name}": {hint}'


def release_line(run: PresetRun) -> str | None:
    """A sentence where the preset was not tested with the installed release, but with an older one
    or none.
    """
    if not run.preset.tested:
        return f"the preset of {run.preset.title} was not tested with it"
    release = installed_release(run.program, package=run.preset.package)
    if release is None or not is_newer(release, run.preset.tested):
        return None
    return f"{run.preset.title} {release} is newer than {run.preset.tested}, with which its preset was tested"


def model_from_config(run: PresetRun, file: str, *, agent: str | None) -> tuple[str, str] | None:
    """Where the config does not serve what the agent requests by itself: a model that it has, and a
    sentence about it. None also for a faulty config, which the gateway reports.
    """
    from modelplex.config import ConfigError, load, provider_types

    try:
        config = load(file, environ=os.environ, find_ollama=lambda: False)
    except ConfigError:
        return None
    globs = next((each.models for each in config.agents if each.name == agent), ())
    model = model_of_config(config, run.preset, globs=globs, types=provider_types())
    if model is None:
        return None
    title, default = run.preset.title, run.preset.model.default
    return model, f"{file} has no model {default}: {title} requests {model} instead (--model chooses another)"


def takes_telemetry(file: str) -> bool:
    """Whether the config keeps or relays the telemetry of agents; also False for a faulty one,
    which the gateway reports.
    """
    from modelplex.config import ConfigError, load

    try:
        return bool(load(file, environ=os.environ, find_ollama=lambda: False).otel.agents)
    except ConfigError:
        return False


def map_found_models(run: PresetRun, folder: Path) -> tuple[Path, str] | None:
    """Where there is no config: a file in `folder` that maps the agent's models to what is found,
    and a sentence about it. None where nothing is found, not even the demo.
    """
    from modelplex.config import load_without_file, provider_types

    types = provider_types()
    providers = load_without_file(os.environ, types=types).providers
    found = find_model(providers, run.preset, types=types, list_ollama=list_ollama)
    if found is None:
        return None
    file = folder / "config.toml"
    file.write_text(config_text(found.target), encoding="utf-8")
    return file, mapping_line(run.preset.title, run.preset.model.default, found)
