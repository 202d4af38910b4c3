"""Presets of `modelplex run NAME`: what it must know about an agent, as data in a TOML file.

The files are in presets/, and the user's own in ~/.config/modelplex/presets. docs/how-to/agents.md
describes the fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.read import MAX_FILE, read_toml
from modelplex.config.rules import (
    Rule,
    build,
    environment_name,
    list_of,
    mapping,
    read_fields,
    rules_of,
    tables,
    text,
)
from modelplex.config.toml_node import FAULTY, Faulty, TomlDocument, TomlNode, quote
from modelplex.sandbox.environment import BASE

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
"""Of a preset; also the name of a folder of the state."""
PRESETS: Final = Path(__file__).with_name("presets")
PLACEHOLDERS: Final = ("base", "home", "folder", "model")
"""Written as `${base}`: the gateway's address, the home and working folders, and the model."""
_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")

T = TypeVar("T", bound=msgspec.Struct)


class PresetFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the agent's home. `replace` writes it at each start, `missing` only where there is
    none, and `merge` puts the members of a JSON object into the one that is there.
    """

    path: str
    text: str
    mode: Literal["replace", "missing", "merge"] = "replace"


class PresetModel(msgspec.Struct, frozen=True, kw_only=True):
    """`default` is what the agent requests unless told otherwise; `environment` and `arguments`
    tell it to request `${model}`. `provider` is the type of provider that serves the default.
    """

    default: str
    provider: str = ""
    environment: dict[str, str] = {}
    arguments: tuple[str, ...] = ()


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """`programs` are names on the PATH, the first one found is started; `tested` is "" where it was
    started with none. `package` is its name in a Python environment. `arguments_outside_git` are
    added in a folder that is in no Git repository. `keep` are folders of the home that stay between
    runs, and `instructions` paths of the home that `--instructions` shows. By the variables in
    `telemetry` it sends its telemetry to `${base}`, where the config takes that of agents.
    """

    title: str
    programs: tuple[str, ...]
    install: str
    docs: str
    tested: str
    model: PresetModel
    package: str = ""
    arguments: tuple[str, ...] = ()
    arguments_outside_git: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    telemetry: dict[str, str] = {}
    keep: tuple[str, ...] = ()
    files: tuple[PresetFile, ...] = ()
    instructions: tuple[str, ...] = ()


# --- reading ---


def _template(node: TomlNode) -> str | Faulty:
    """A string with placeholders of PLACEHOLDERS only."""
    if not isinstance(node.value, str):
        return node.reject("a string", found=quote(node.value))
    unknown = [name for name in _PLACEHOLDER.findall(node.value) if name not in PLACEHOLDERS]
    if unknown:
        known = ", ".join(f"${{{name}}}" for name in PLACEHOLDERS)
        return node.reject("only known placeholders", found=f"${{{unknown[0]}}}", hint=f"known here: {known}")
    return node.value


def _path_of_home(node: TomlNode) -> str | Faulty:
    expected = "a path below the home folder, such as .claude"
    value = text(expected)(node)
    if value is FAULTY:
        return FAULTY
    if value.startswith(("/", "~")) or any(part in {"", ".", ".."} for part in value.split("/")):
        return node.reject(expected, found=quote(node.value))
    return value


_TEMPLATES: Final = list_of(_template, "a list of strings")
_VARIABLES: Final = mapping(_template, key=environment_name)
_PATHS: Final = list_of(_path_of_home, "a list of paths below the home folder")
_FILE: Final = rules_of(PresetFile, path=_path_of_home, text=_template)
_MODEL: Final = rules_of(
    PresetModel, default=text("a model's name"), environment=_VARIABLES, arguments=_TEMPLATES
)


def _complete(kind: type[T], rules: Mapping[str, Rule[object]]) -> Rule[T]:
    """A table whose keys are the fields of `kind`; one without a default must be there."""

    def read(node: TomlNode) -> T | Faulty:
        values, members = read_fields(node, rules)
        needed = [field.name for field in msgspec.structs.fields(kind) if field.required]
        for name in needed:
            if name not in members:
                node.child(name).reject("a value", found="none", hint="this key is needed")
        return build(kind, values) if all(name in values for name in needed) else FAULTY

    return read


def _file(node: TomlNode) -> PresetFile | Faulty:
    file = _complete(PresetFile, _FILE)(node)
    if file is FAULTY or file.mode != "merge":
        return file
    try:
        is_object = isinstance(json.loads(fill(file.text, dict.fromkeys(PLACEHOLDERS, "x"))), dict)
    except (ValueError, RecursionError):
        is_object = False
    if is_object:
        return file
    hint = "this file is merged into the one that is there"
    return node.get("text").reject("a JSON object", found=quote(file.text), hint=hint)


_PRESET: Final = _complete(
    Preset,
    rules_of(
        Preset,
        title=text("a name"),
        install=text("how to install it"),
        docs=text("an address"),
        tested=_template,
        programs=list_of(text("a program's name"), "a list of programs", least=1, single=str),
        model=_complete(PresetModel, _MODEL),
        arguments=_TEMPLATES,
        arguments_outside_git=_TEMPLATES,
        environment=_VARIABLES,
        telemetry=_VARIABLES,
        keep=_PATHS,
        files=tables(_file),
        instructions=_PATHS,
    ),
)


def parse_preset(content: bytes, *, file: str) -> Preset:
    """`file` names it in faults. Raises ConfigError with every fault."""
    tree, lines = read_toml(content, file=file)
    document = TomlDocument(file, lines, {}, {}, [])
    preset = _PRESET(TomlNode(tree, (), document))
    if document.faults or preset is FAULTY:
        raise ConfigError(document.faults)
    return preset


def config_folder(environ: Mapping[str, str]) -> Path:
    """Of the user's own presets: https://specifications.freedesktop.org/basedir-spec/latest"""
    named = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (named if named.is_absolute() else Path(environ.get("HOME", "/"), ".config")) / "modelplex"


def find_preset(name: str, *, environ: Mapping[str, str]) -> Path | None:
    """The file of a preset; the user's own comes before ours."""
    if not NAME.fullmatch(name):
        return None
    folders = (config_folder(environ) / "presets", PRESETS)
    return next((file for folder in folders if (file := folder / f"{name}.toml").is_file()), None)


def preset_names(environ: Mapping[str, str]) -> list[str]:
    folders = (config_folder(environ) / "presets", PRESETS)
    return sorted({file.stem for folder in folders for file in folder.glob("*.toml")})


def load_preset(file: Path) -> Preset:
    """Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            return parse_preset(opened.read(MAX_FILE + 1), file=str(file))
    except OSError as error:
        fault = ConfigFault(
            str(file), None, "", expected="a readable file", found=(error.strerror or "an error").lower()
        )
        raise ConfigError([fault]) from None


# --- filling in ---


def fill(template: str, values: Mapping[str, str], *, escape: bool = False) -> str:
    """Replace the placeholders. `escape` is for files: what JSON escapes within quotes, TOML's
    basic strings and YAML's double quotes escape alike.
    """

    def value(found: re.Match[str]) -> str:
        filled = values[found[1]]
        return json.dumps(filled, ensure_ascii=False)[1:-1] if escape else filled

    return _PLACEHOLDER.sub(value, template)


def placeholders(*, home: str, folder: str, model: str) -> dict[str, str]:
    return {"base": BASE, "home": home, "folder": folder, "model": model}
