"""The installations that a sandbox shows: whole where they are programs, and never credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from modelplex.sandbox.programs import (
    TOOLCHAINS,
    VARIABLES,
    mise_files,
    of_program,
    program_outside,
    programs,
    secrets_of,
)
from tests.sandbox.sandboxes import SECRET, Person, by_either_builder


def program(path: Path, line: str = "true") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "home"
    made.mkdir()
    return made


def shown(
    home: Path,
    *path: Path,
    command: str = "true",
    environ: Mapping[str, str] = {},
    folder: str = "",
    writable: Sequence[str] = (),
) -> set[str]:
    """Below the home, relative to it."""
    listed = os.pathsep.join(map(str, path))
    found = programs(
        command, environ={**environ, "PATH": listed}, home=str(home), folder=folder, writable=writable
    )
    return {os.path.relpath(each, home) for each in found if each.startswith(f"{home}/")}


def test_a_proxy_on_the_path_has_its_toolchains_and_no_token(home: Path) -> None:
    program(home / ".cargo/bin/rustup")
    link(home / ".cargo/bin/cargo", "rustup")
    program(home / ".rustup/toolchains/stable/bin/cargo")
    for name in ("credentials.toml", "config.toml", "credentials"):
        (home / ".cargo" / name).write_text(SECRET)
    (home / ".cargo/registry").mkdir()
    (home / ".cargo/lib").mkdir()  # even then it is no installation to be shown whole
    assert shown(home, home / ".cargo/bin") == {
        *(".cargo/bin", ".cargo/bin/cargo", ".cargo/bin/rustup", ".cargo/registry", ".rustup/toolchains"),
    }


def test_a_toolchain_that_is_not_on_the_path_is_not_shown(home: Path) -> None:
    for row in TOOLCHAINS:
        for root in row:
            program(home / root.folder / "bin" / "x")
    assert shown(home, Path("/usr/bin")) == set()


def test_a_variable_names_the_folder(home: Path) -> None:
    program(home / "rust/toolchains/stable/bin/cargo")
    program(home / "java/bin/java")
    program(home / "one/bin/x")
    program(home / "two/bin/x")
    environ = {"RUSTUP_HOME": f"{home}/rust", "GOPATH": f"{home}/one:{home}/two", "JAVA_HOME": f"{home}/java"}
    assert shown(home, environ=environ) == {"rust/toolchains", "one/bin", "two/bin", "java"}
    assert {"JAVA_HOME", "CARGO_HOME", "GOPATH", "RUSTUP_HOME"} <= set(VARIABLES)


@pytest.mark.parametrize("value", ["", "/", ".", "relative", "{home}", "{home}/.."])
def test_a_variable_does_not_share_the_home(home: Path, value: str) -> None:
    program(home / ".ssh/bin/x")
    for name in VARIABLES:
        found = shown(home, environ={name: value.format(home=home)})
        assert found <= {"bin", "plugins"}, name


@pytest.mark.parametrize(
    ("target", "whole"),
    [
        (".local/share/uv/tools/ruffy/bin/ruffy", ".local/share/uv/tools"),
        (".local/share/pipx/venvs/black/bin/black", ".local/share/pipx/venvs"),
        (".local/opt/go/bin/gofmt", ".local/opt"),
        (".local/share/agent/versions/7/agent", ".local/share/agent/versions"),
        (".local/share/agent/versions/7/bin/agent", ".local/share/agent/versions/7"),
        (".local/lib/tool/bin/tool", ".local/lib/tool"),
        ("node/lib/node_modules/agent/cli.js", "node/lib/node_modules/agent/cli.js"),
    ],
)
def test_a_link_on_the_path_is_followed_to_its_installation(home: Path, target: str, whole: str) -> None:
    program(home / target)
    link(home / ".local/bin/tool", home / target)
    found = shown(home, home / ".local/bin")
    assert whole in found or f"{whole}/7" in found
    assert not found & {".local", ".local/share", ".local/lib", ".", ".local/share/agent"}


@pytest.mark.parametrize(
    "target",
    [".local/share/opencode/opencode", "secrets/tool", ".ssh/bin/tool", "tool", ".config/tool/bin/x"],
)
def test_a_link_does_not_share_what_lies_beside_its_end(home: Path, target: str) -> None:
    program(home / target)
    link(home / ".local/bin/tool", home / target)
    assert shown(home, home / ".local/bin") == {".local/bin", ".local/bin/tool", target}


def test_a_link_of_a_link_shows_each(home: Path) -> None:
    program(home / "jdk/17/bin/java")
    (home / "jdk/17/lib").mkdir()
    link(home / "jdk/current", "17")
    link(home / "bin/java", home / "jdk/current/bin/java")
    found = {os.path.relpath(path, home) for path in of_program(f"{home}/bin/java", home=str(home))}
    assert found >= {"bin/java", "jdk/current/bin/java", "jdk/17/bin/java", "jdk/current", "jdk/17"}


def test_links_in_a_writable_folder_lead_to_toolchains_alone(home: Path) -> None:
    """An earlier program of a sandbox may have made them."""
    project = home / "project"
    key = program(home / ".ssh/id")
    program(home / ".cargo/bin/rustup")
    (home / ".cargo/credentials.toml").write_text(SECRET)
    program(home / "private/bin/x")
    (home / "private/lib").mkdir()
    bin_folder = project / ".bin"
    link(bin_folder / "agent", key)
    link(bin_folder / "other", home / "private/bin/x")
    link(bin_folder / "token", home / ".cargo/credentials.toml")
    linked = link(project / "linked", home / ".ssh")
    (project / ".venv").mkdir()
    (project / ".venv/pyvenv.cfg").write_text(f"home = {home}/private/bin\n")
    link(project / ".venv/bin/python", home / "private/bin/x")
    found = shown(
        home,
        bin_folder,
        linked,
        project / ".venv/bin",
        command=str(bin_folder / "agent"),
        folder=str(project),
        writable=[str(project)],
    )
    assert found == {".cargo/bin"}


def test_the_interpreter_of_a_projects_environment_is_shown(home: Path) -> None:
    project = home / "project"
    program(home / ".local/share/uv/python/cpython/bin/python3")
    link(project / ".venv/bin/python", home / ".local/share/uv/python/cpython/bin/python3")
    found = shown(home, folder=str(project), writable=[str(project)])
    assert found == {".local/share/uv/python"}


def test_tokens_in_an_installation_are_found(home: Path) -> None:
    tokens = ["tool/pip.conf", "tool/etc/npmrc", "uv/a/uv-receipt.toml", "mod/cache/vcs", "uv/a/b/.npmrc"]
    for name in tokens:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(SECRET)
    (home / "tool/other").write_text("x")
    found = secrets_of([str(home / name) for name in ("tool", "uv", "mod", "tool/other")] + ["/usr/bin"])
    assert {os.path.relpath(path, home) for path in found} == set(tokens)


def test_of_mises_config_the_versions_pass(home: Path) -> None:
    config = home / ".config/mise/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        '[tools]\nnode = "20"\npython = ["3.12", "3.11"]\n'
        f'"npm:x" = {{version = "1", token = "{SECRET}"}}\nodd = 3\n[env]\nKEY = "{SECRET}"\n'
    )
    (text,) = mise_files({}, home=str(home)).values()
    assert text == '[tools]\n"node" = "20"\n"python" = ["3.12", "3.11"]\n"npm:x" = "1"\n'
    config.write_text("[tools\n")
    assert mise_files({}, home=str(home)) == {}
    assert mise_files({"MISE_CONFIG_DIR": "/nowhere"}, home=str(home)) == {}


def test_no_program_of_a_writable_folder_is_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted, own = program(home / "project/bin/git"), program(home / "bin/git")
    monkeypatch.setenv("PATH", f"{planted.parent}:.:{own.parent}")
    monkeypatch.chdir(planted.parent)
    assert program_outside("git", writable=[str(home / "project")]) == str(own)
    own.unlink()
    link(own, planted)
    assert program_outside("git", writable=[str(home / "project")]) is None


@by_either_builder
def test_toolchains_run_and_credentials_stay_hidden(who: Person, builder: list[str]) -> None:
    home = who.home
    program(home / ".cargo/bin/rustup", 'exec "$HOME/.rustup/toolchains/stable/bin/$(basename $0)"')
    link(home / ".cargo/bin/cargo", "rustup")
    program(home / ".rustup/toolchains/stable/bin/cargo", "echo cargo runs")
    tool = program(home / ".local/share/uv/tools/ruffy/bin/ruffy", "echo ruffy runs")
    link(home / ".local/bin/ruffy", tool)
    tokens = [".cargo/credentials.toml", ".npmrc", ".config/gh/hosts.yml", ".ssh/id", ".netrc"]
    tokens += [".local/share/uv/credentials/credentials.toml", ".local/share/uv/tools/ruffy/uv-receipt.toml"]
    for name in tokens:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(SECRET)
    code = "cargo; ruffy; grep -rl sk-of-the-host $HOME; touch $HOME/.cargo/bin/x"
    path = f"{home}/.cargo/bin:{home}/.local/bin:{who.environ['PATH']}"
    done = who.run(*builder, "--", "sh", "-c", code, environ={"PATH": path})
    assert done.stdout == "cargo runs\nruffy runs\n", done.stderr
    assert "Read-only file system" in done.stderr
