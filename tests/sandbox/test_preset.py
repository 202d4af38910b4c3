import json
import tomllib
from pathlib import Path

import pytest

from modelplex.config import ConfigError
from modelplex.sandbox.preset import (
    PRESETS,
    config_folder,
    fill,
    find_preset,
    load_preset,
    parse_preset,
    placeholders,
    preset_names,
)

MINIMAL = """
title = "Mine"
programs = "mine"
install = "pip install mine"
docs = "https://example.org"
tested = "1.0"
[model]
default = "m"
"""
VALUES = placeholders(home='/home/a "b"', folder="/w\\x", model="m")


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as found:
        parse_preset(text.encode(), file="p.toml")
    return [str(fault) for fault in found.value.faults]


def test_a_minimal_preset() -> None:
    preset = parse_preset(MINIMAL.encode(), file="p.toml")
    assert (preset.title, preset.programs, preset.model.default) == ("Mine", ("mine",), "m")
    assert (preset.files, preset.keep, preset.environment) == ((), (), {})


@pytest.mark.parametrize("name", preset_names({}))
def test_each_of_ours_is_valid_and_its_files_are_in_folders_that_are_kept(name: str) -> None:
    preset = load_preset(PRESETS / f"{name}.toml")
    for file in preset.files:
        assert any(file.path.startswith(f"{folder}/") for folder in preset.keep), file.path
        text = fill(file.text, VALUES, escape=True)
        if file.mode == "merge" or file.path.endswith(".json"):
            assert isinstance(json.loads(text), dict)
        if file.path.endswith(".toml"):
            tomllib.loads(text)
    for path in preset.instructions:
        assert any(path.startswith(f"{folder}/") for folder in preset.keep), path


def test_every_fault_is_reported_with_its_line() -> None:
    assert faults(
        'titel = 1\nprograms = []\n[model]\ndefault = "m"\n[[files]]\npath = "../x"\ntext = "${x}"\n'
    ) == [
        *(
            f"p.toml: {key}: expected a value, found none; this key is needed"
            for key in ("title", "install", "docs", "tested")
        ),
        'p.toml:1: titel: expected a known key, found "titel"; did you mean "title"?',
        "p.toml:2: programs: expected a list of programs, found an empty list",
        'p.toml:6: files[0].path: expected a path below the home folder, such as .claude, found "../x"',
        (
            "p.toml:7: files[0].text: expected only known placeholders, found ${x};"
            " known here: ${base}, ${home}, ${folder}, ${model}"
        ),
    ]


def test_text_that_is_merged_must_be_a_json_object() -> None:
    entry = '[[files]]\npath = "a/b"\nmode = "merge"\ntext = "[1]"\n'
    assert faults(MINIMAL + entry) == [
        'p.toml:12: files[0].text: expected a JSON object, found "[1]"; this file is merged into the one that is there'
    ]


def test_values_are_escaped_in_files_alone() -> None:
    assert fill("${home}", VALUES) == '/home/a "b"'
    assert json.loads(fill('{"${home}": "${folder}"}', VALUES, escape=True)) == {'/home/a "b"': "/w\\x"}
    assert tomllib.loads(fill('a = "${folder}"', VALUES, escape=True)) == {"a": "/w\\x"}


def test_the_users_own_preset_comes_first(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_preset("claude", environ=environ) == PRESETS / "claude.toml"
    own = tmp_path / "modelplex" / "presets" / "claude.toml"
    own.parent.mkdir(parents=True)
    own.write_text(MINIMAL)
    (own.parent / "mine.toml").write_text(MINIMAL)
    assert find_preset("claude", environ=environ) == own
    assert load_preset(own).title == "Mine"
    assert {"claude", "codex", "mine"} <= set(preset_names(environ))
    assert config_folder({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == Path("/h/.config/modelplex")


@pytest.mark.parametrize("name", ["../claude", "CLAUDE", "", "no-such"])
def test_a_word_that_names_no_preset(name: str) -> None:
    assert find_preset(name, environ={"HOME": "/nonexistent"}) is None


def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable file, found no such file"):
        load_preset(tmp_path / "gone.toml")
