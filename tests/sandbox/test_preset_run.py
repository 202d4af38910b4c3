import os
from pathlib import Path

import pytest

from modelplex.command_options import parse
from modelplex.sandbox.errors import WrongArguments
from modelplex.sandbox.preset_run import choose_preset, map_found_models, release_line, takes_telemetry

MINE = """
title = "Mine"
programs = ["mine-beta", "mine"]
install = "pip install mine"
docs = "https://example.org"
tested = "1.0"
arguments = ["--home", "${home}"]
[environment]
BASE = "${base}/v1"
[model]
default = "m"
arguments = ["--model", "${model}"]
environment = { MODEL = "${model}" }
"""


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a preset of their own, and its program in the release 1.1."""
    folder = tmp_path / ".config" / "modelplex" / "presets"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(MINE)
    program = tmp_path / "versions" / "1.1"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mine").symlink_to(program)
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("XDG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_a_preset_makes_the_command_and_the_home(account: Path) -> None:
    run = choose_preset(parse(["run", "mine", "--print", "hi"]))
    assert run is not None
    program = str(account / "bin" / "mine")
    command, home = run.prepare(home="/h", folder="/w", model=None, has_instructions=False)
    assert command == [program, "--home", "/h", "--print", "hi"]
    assert home.environ == {"BASE": "http://127.0.0.1:11435/v1"}
    command, home = run.prepare(home="/h", folder="/w", model="x", has_instructions=False)
    assert command == [program, "--home", "/h", "--model", "x", "--print", "hi"]
    assert home.environ == {"BASE": "http://127.0.0.1:11435/v1", "MODEL": "x"}
    assert release_line(run) == "Mine 1.1 is newer than 1.0, with which its preset was tested"


def test_telemetry_is_sent_where_the_config_takes_it(account: Path, tmp_path: Path) -> None:
    file = account / ".config" / "modelplex" / "presets" / "mine.toml"
    file.write_text(MINE.replace("[model]", '[telemetry]\nOTEL = "${base}"\n[model]'))
    run = choose_preset(parse(["run", "mine"]))
    assert run is not None
    for sends in (False, True):
        _, home = run.prepare(
            home="/h", folder="/w", model=None, has_instructions=False, sends_telemetry=sends
        )
        assert ("OTEL" in home.environ) == sends
    config = tmp_path / "config.toml"
    for text, takes in (("", False), ('[otel]\nagents = "keep"\n', True), ("[otel]\n", False)):
        config.write_text(f'[[providers]]\ntype = "demo"\n{text}')
        assert takes_telemetry(str(config)) == takes


def test_arguments_outside_git(account: Path, tmp_path: Path) -> None:
    file = account / ".config" / "modelplex" / "presets" / "mine.toml"
    file.write_text(MINE.replace("[environment]", 'arguments_outside_git = ["--no-git"]\n[environment]'))
    run = choose_preset(parse(["run", "mine"]))
    assert run is not None
    folder = tmp_path / "project" / "below"
    folder.mkdir(parents=True)

    def words() -> list[str]:
        return run.prepare(home="/h", folder=str(folder), model=None, has_instructions=False)[0][1:]

    assert words() == ["--home", "/h", "--no-git"]
    (folder.parent / ".git").mkdir()
    assert words() == ["--home", "/h"]


@pytest.mark.parametrize("words", [["--", "mine"], ["sh", "-c", "true"], ["./mine"], ["--check"]])
def test_what_is_no_preset_is_a_command(words: list[str], account: Path) -> None:
    assert choose_preset(parse(["run", *words])) is None


def test_faults_are_sentences(account: Path) -> None:
    with pytest.raises(WrongArguments, match='there is no preset and no program "mien": did you mean "mine"'):
        choose_preset(parse(["run", "mien"]))
    with pytest.raises(WrongArguments, match=r"the presets are .*claude, codex.*mine"):
        choose_preset(parse(["run", "zzzzz"]))
    (account / "bin" / "mine").unlink()
    with pytest.raises(WrongArguments) as found:
        choose_preset(parse(["run", "mine"]))
    assert found.value.sentence == (
        "Mine is not installed, or not on the PATH (mine-beta or mine): pip install mine (https://example.org)"
    )


def test_without_a_config_the_models_are_mapped(account: Path, tmp_path: Path) -> None:
    run = choose_preset(parse(["run", "mine"]))
    assert run is not None
    mapped = map_found_models(run, tmp_path)
    assert mapped is not None
    assert mapped[0].read_text() == '[aliases]\n"*" = "demo/demo"\n'
    assert mapped[1].startswith("there is no config.toml here: Mine's models (m) are mapped to demo/demo")
