"""The command line: what each argument does, and the report of a wrong one."""

import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from modelplex import __version__, cli, server
from modelplex.config import Config, Secret, provider_types
from modelplex.server.run_control import RunControl

KEY = "sk-very-secret"

START_IMPORTS = frozenset(
    "asyncio msgspec tomllib uvicorn uvloop httptools ssl difflib shutil urllib prometheus_client".split()
)
"""Modules that `--version` and `--help` must not import: they take more than 0.2 s."""


class Served(NamedTuple):
    config: Config
    config_path: str | None
    verbose: bool
    takes_runs: bool


class Result(NamedTuple):
    provider: str
    ok: bool
    sentence: str
    answered: bool = False


class Serve(types.ModuleType):
    """Stands in for modelplex.server.start, which would really listen."""

    def __init__(self) -> None:
        super().__init__("modelplex.server.start")
        self.served: list[Served] = []
        self.error: BaseException | None = None
        self.results: list[Result] = []

    def run(
        self,
        config: Config,
        *,
        config_path: str | None,
        verbose: bool,
        control: Callable[[], RunControl | None],
    ) -> int:
        if self.error is not None:
            raise self.error
        self.served.append(Served(config, config_path, verbose, control() is not None))
        return 0

    async def check_reach(self, config: Config) -> Sequence[Result]:
        assert config.providers
        return self.results


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """The stand-in, in an empty folder, with no key in the environment and no Ollama."""
    fake = Serve()
    for name in ("start", "reach"):
        # As a module, and as the attribute that an earlier import of it left on its package.
        monkeypatch.setitem(sys.modules, f"modelplex.server.{name}", fake)
        monkeypatch.setattr(server, name, fake, raising=False)
    monkeypatch.chdir(tmp_path)
    # The socket at which runs attach is there.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for facts in provider_types().values():
        if facts.key_env:
            monkeypatch.delenv(facts.key_env, raising=False)
    # Port 1 of the loopback refuses: nobody listens there without being root.
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    return fake


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(text: str, *, name: str = "config.toml") -> str:
        (tmp_path / name).write_text(text)
        return name

    return to


DEMO = '[[providers]]\ntype = "demo"\n'


def test_the_default_config_is_served_where_it_exists(serve: Serve, write: Write) -> None:
    write(DEMO)
    assert cli.main([]) == 0
    (served,) = serve.served
    assert (served.config_path, served.verbose) == ("config.toml", False)
    assert served.config.server.http == ("127.0.0.1:11435",)


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_attach_to_a_gateway_of_one_process(serve: Serve, write: Write, workers: int) -> None:
    write(f"[server]\nworkers = {workers}\n{DEMO}")
    assert cli.main([]) == 0
    assert [each.takes_runs for each in serve.served] == [workers == 1]


def test_the_file_of_the_environment_comes_before_the_folders(
    serve: Serve, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(DEMO)
    named = tmp_path / "named.toml"
    monkeypatch.setenv("MODELPLEX_CONFIG", str(named))
    assert cli.main([]) == 0
    named.write_text(f'[server]\nhttp = ":7"\n{DEMO}')
    assert cli.main([]) == 0
    assert cli.main(["--config", "config.toml"]) == 0
    assert [each.config_path for each in serve.served] == ["config.toml", str(named), "config.toml"]


def test_a_port_of_the_command_line_has_the_default_host(
    serve: Serve, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(DEMO)
    monkeypatch.setenv("MODELPLEX_DEFAULT_HOST", "0.0.0.0")
    assert cli.main(["--http", ":8080"]) == 0
    assert serve.served[0].config.server.http == ("0.0.0.0:8080",)
    monkeypatch.setenv("MODELPLEX_DEFAULT_HOST", "a b")
    with pytest.raises(SystemExit):
        cli.main(["--http", ":8080"])
    assert "MODELPLEX_DEFAULT_HOST names no host" in capsys.readouterr().err


def test_without_a_config_it_serves_and_lists_what_it_detects(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert cli.main(["--verbose"]) == 0
    (served,) = serve.served
    assert [provider.name for provider in served.config.providers] == ["groq", "demo"]
    assert (served.config_path, served.verbose) == (None, True)
    output = capsys.readouterr().err
    assert "there is no config.toml here" in output
    assert "groq: its key is in GROQ_API_KEY" in output
    assert "demo: built in and offline" in output
    assert KEY not in output


@pytest.mark.parametrize(
    ("arguments", "http", "socket"),
    [
        ([], ("127.0.0.1:7",), ("c.sock",)),
        (["--http", ":8080"], ("127.0.0.1:8080",), ("c.sock",)),
        (
            ["--http", "0.0.0.0:1", "--http=[::1]:2", "--http", "0.0.0.0:1"],
            ("0.0.0.0:1", "[::1]:2"),
            ("c.sock",),
        ),
        (["--socket", "a.sock"], (), ("a.sock",)),
        (["--socket", "a", "--socket", "b", "--http", ":1"], ("127.0.0.1:1",), ("a", "b")),
    ],
)
def test_listeners_on_the_command_line_replace_those_of_the_config(
    serve: Serve, write: Write, arguments: list[str], http: tuple[str, ...], socket: tuple[str, ...]
) -> None:
    write('[server]\nhttp = ":7"\nsocket = "c.sock"\nlog_level = "debug"\n' + DEMO)
    assert cli.main(arguments) == 0
    server = serve.served[0].config.server
    assert (server.http, server.socket, server.log_level) == (http, socket, "debug")


def test_options_may_stand_before_and_after_the_subcommand(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(DEMO, name="other.toml")
    for arguments in (
        ["--config", name, "check", "--http", ":1"],
        ["--http", ":1", "check", "--config", name],
    ):
        assert cli.main(arguments) == 0
        output = capsys.readouterr().out
        assert "config: other.toml\nlistens on:\n  http://127.0.0.1:1\n" in output
    assert not serve.served


def test_a_named_config_must_exist(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--config", "absent.toml"]) == 2
    output = capsys.readouterr().err
    assert output == "modelplex: absent.toml: expected a readable file, found no such file or directory\n"
    assert not serve.served


def test_a_wrong_config_starts_nothing_and_reports_every_fault(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write('[server]\nlog_levl = "info"\n[log]\nkeep = "5"\n')
    for arguments in ([], ["check"]):
        assert cli.main(arguments) == 2
        output = capsys.readouterr().err
        assert output.startswith("modelplex: the config has 2 faults\n  config.toml:2: server.log_levl: ")
        assert "\n  config.toml:4: log.keep: " in output
    assert not serve.served


@pytest.mark.parametrize(
    ("arguments", "report"),
    [
        (
            ["--http", "8080"],
            'argument --http: "8080" is not an address: a port alone needs a colon before it',
        ),
        (["--http", "host"], "the form is host:port"),
        (["--socket", ""], "argument --socket: the path is empty"),
        (["run", "--socket", "", "--", "true"], "argument --socket: the path is empty"),
        (["run", "--config", "", "--", "true"], "argument --config: the path is empty"),
        (["run", "--ro", "", "--", "true"], "argument --ro: the path is empty"),
        (["run", "--rw", "", "--", "true"], "argument --rw: the path is empty"),
        (["bridge", "--socket", ""], "argument --socket: the path is empty"),
        (["check", "--config", ""], "argument --config: the path is empty"),
        (["--config", "", "run", "--", "true"], "argument --config: the path is empty"),
        (["--conf", "x"], "--conf"),
        (["serve"], "`modelplex` without a command serves"),
        (["--reach"], "--reach"),
    ],
)
def test_wrong_arguments_are_reported_and_nothing_starts(
    serve: Serve, arguments: list[str], report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert report in capsys.readouterr().err
    assert not serve.served


CHECKED = f"""\
[server]
socket = "a.sock"
http = ":1"
[[providers]]
name = "second"
type = "openai"
base_url = "http://127.0.0.1:2/v1"
priority = 2
[[providers]]
type = "groq"
api_key = ["{KEY}", "b"]
models = ["llama-*"]
[aliases]
fast = ["groq/llama-3", "second/x"]
[mcp]
enabled = true
servers = [ {{ name = "files", command = "c", args = ["{KEY}"] }}, {{ name = "far", url = "https://x/{KEY}" }} ]
"""


def test_check_shows_what_would_be_served(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(CHECKED)
    assert cli.main(["check"]) == 0
    assert (
        capsys.readouterr().out
        == """\
config: config.toml
listens on:
  http://127.0.0.1:1
  a.sock (a Unix socket, mode 0660)
providers, in the order in which they are tried:
  groq (groq) at https://api.groq.com/openai/v1: priority 1, 2 keys, models: llama-*
  second (openai) at http://127.0.0.1:2/v1: priority 2, no key, models: all that it lists
aliases:
  fast -> groq/llama-3, second/x
policy:
  sockets: sealed
  http: open
tool servers (pinning: auto, search: off):
  files (c): protocol auto, shared, tools: all
  far (https://x): protocol auto, shared, tools: all
"""
    )
    assert not serve.served


@pytest.mark.usefixtures("serve")
def test_check_shows_models_that_need_their_providers_name(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        """
[[providers]]
type = "openai"
api_key = "k"
models = ["gpt-4o"]
[[providers]]
type = "openrouter"
api_key = "k"
models = ["openai/gpt-4o", "openai/other", "x"]
"""
    )
    assert cli.main(["check"]) == 0
    assert (
        """\
models to request by another name, since their own leads to another provider:
  openrouter's openai/gpt-4o: request openrouter/openai/gpt-4o
policy:
"""
        in capsys.readouterr().out
    )


def test_check_reach_shows_who_answers_and_fails_otherwise(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(DEMO)
    serve.results = [Result("demo", ok=True, sentence="1 model")]
    assert cli.main(["check", "--reach"]) == 0
    assert capsys.readouterr().out.endswith("reach:\n  demo: ok: 1 model\n")
    serve.results.append(Result("far", ok=False, sentence="It refused the connection."))
    assert cli.main(["check", "--reach"]) == 1
    assert capsys.readouterr().out.endswith("  far: no answer: It refused the connection.\n")
    serve.results.append(Result("shut", ok=False, sentence="HTTP 401.", answered=True))
    assert cli.main(["check", "--reach", "--json"]) == 1
    reach = json.loads(capsys.readouterr().out)["reach"]
    assert [each["provider"] for each in reach] == ["demo", "far", "shut"]
    assert cli.main(["check", "--reach"]) == 1
    assert capsys.readouterr().out.endswith("  shut: failed: HTTP 401.\n")


class InUseError(Exception):
    sentence = "127.0.0.1:11435 is in use by another process."


def test_a_foreseen_error_is_a_sentence(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(DEMO)
    serve.error = InUseError("something internal")
    for arguments in ([], ["--verbose"]):
        assert cli.main(arguments) == 1
        assert capsys.readouterr().err == f"modelplex: {InUseError.sentence}\n"


def test_an_unforeseen_error_has_a_traceback_with_verbose_only(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(DEMO)
    serve.error = RuntimeError("odd")
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "modelplex: RuntimeError: odd (--verbose shows the traceback)\n"
    with pytest.raises(RuntimeError):
        cli.main(["--verbose"])


def test_ctrl_c_is_quiet(serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(DEMO)
    serve.error = KeyboardInterrupt()
    assert cli.main([]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_closed_pipe_causes_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(DEMO)
    read_end, write_end = os.pipe()
    os.close(read_end)
    ended = subprocess.run(
        [sys.executable, "-m", "modelplex", "check"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        check=False,
        timeout=30,
    )
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"modelplex {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"]])
def test_every_option_has_a_help_text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    output = capsys.readouterr().out
    options = re.findall(r"^  (?:-h, )?(--[a-z]+)(?: [A-Z]+)?\s+(\w.*|\S.*)$", output, re.MULTILINE)
    expected = {"--help", "--config", "--http", "--socket", "--vsock", "--verbose"}
    assert {name for name, _ in options} == expected | (
        {"--reach", "--confine", "--all", "--strict", "--json"} if "check" in arguments else {"--version"}
    )
    assert all(text.strip() for _, text in options)
    assert "examples:\n  modelplex " in output


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_nothing_heavy_is_imported_for_the_version(argument: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "modelplex", argument],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert ("argparse" in loaded) == (argument == "--help")
    assert not loaded & START_IMPORTS


def test_the_config_that_check_and_serve_see_holds_the_keys(serve: Serve, write: Write) -> None:
    write(CHECKED)
    assert cli.main([]) == 0
    assert serve.served[0].config.providers[1].api_key == (Secret(KEY), Secret("b"))


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["check", *arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.usefixtures("serve")
def test_check_prints_findings_on_stderr_and_fails_for_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[server]\nhttp = "0.0.0.0:80"\n{DEMO}')
    config.chmod(0o600)
    status, out, err = check(capsys)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith(
        "modelplex: config.toml:2: warning: server.http: everybody who can connect to 0.0.0.0:80 "
    )
    assert err.endswith("[open-listener]\n")
    assert out.startswith("config: config.toml\nlistens on:\n  http://0.0.0.0:80\n")
    assert check(capsys, "--strict")[0] == 1
    config.write_text(f'{DEMO}[aliases]\na = "a"\n')
    assert check(capsys)[0] == 1


MEMBERS = {"severity", "code", "file", "line", "key", "message", "remedy"}


@pytest.mark.usefixtures("serve")
def test_check_prints_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'{DEMO}[aliases]\na = "b"\n')
    config.chmod(0o600)
    status, out, err = check(capsys, "--json", "--socket", "none/m.socket")
    document = json.loads(out)
    assert (status, err, document["ok"], document["config"]) == (1, "", False, "config.toml")
    assert all(set(each) == MEMBERS for each in document["findings"])
    assert [(each["code"], each["file"], each["line"], each["key"]) for each in document["findings"]] == [
        ("missing-folder", None, None, "--socket"),
        ("unknown-target", "config.toml", 4, "aliases.a"),
    ]
    config.write_text('[server]\nlog_levl = "info"\n[log]\nkeep = "5"\n')
    status, out, err = check(capsys, "--json")
    document = json.loads(out)
    assert (status, err, document["ok"]) == (2, "", False)
    assert [(each["code"], each["line"], each["key"]) for each in document["findings"]] == [
        ("invalid-config", 2, "server.log_levl"),
        ("invalid-config", 4, "log.keep"),
    ]
    config.write_text(DEMO)
    status, out, err = check(capsys, "--json")
    assert (status, json.loads(out), err) == (0, {"config": "config.toml", "ok": True, "findings": []}, "")


def test_many_findings_of_one_code_are_counted(
    serve: Serve, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    agents = "".join(f'[[agents]]\nname = "a{n}"\nsocket = "none/a{n}.sock"\n' for n in range(40))
    write(DEMO + agents)
    assert cli.main(["check"]) == 1
    report = capsys.readouterr().err
    assert report.count("[missing-folder]") == 5
    assert report.endswith("and 35 more of missing-folder: `modelplex check --all` lists them\n")
    assert cli.main(["check", "--all"]) == 1
    assert capsys.readouterr().err.count("[missing-folder]") == 40
