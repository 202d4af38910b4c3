"""`modelplex import` and `modelplex mcp import`: the file that comes out is a config."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from modelplex import cli
from modelplex.config import load

GIT = {
    "mcpServers": {
        "git": {"command": "git-mcp", "env": {"GIT_TOKEN": "hidden-value"}},
        "bad": {"url": "ftp://x"},
    }
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELPLEX_CONFIG", raising=False)
    (tmp_path / "mcp.json").write_text(json.dumps(GIT))
    return tmp_path


def test_servers_are_printed_as_a_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mcp", "import", "mcp.json"]) == 0
    out, err = capsys.readouterr()
    (folder / "new.toml").write_text(out)
    (server,) = load("new.toml", environ={"GIT_TOKEN": "t"}).mcp.servers
    assert (server.name, server.env["GIT_TOKEN"].reveal()) == ("git", "t")
    assert "modelplex: git.env.GIT_TOKEN: a secret stood here, and is $GIT_TOKEN now\n" in err
    assert "modelplex: bad: left out: mcp.servers[0].url: expected an address" in err
    assert err.endswith("modelplex: set in the environment of the gateway: GIT_TOKEN\n")
    assert "hidden-value" not in out + err


def test_servers_are_appended_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "config.toml"
    config.write_text('# mine\n[[providers]]\ntype = "demo"\n\n[aliases]\na = "demo"')
    config.chmod(0o640)
    assert cli.main(["mcp", "import", "mcp.json", "--write"]) == 0
    assert capsys.readouterr().out == "config.toml: added git\n"
    text = config.read_text()
    assert text.startswith("# mine\n")
    loaded = load("config.toml", environ={"GIT_TOKEN": "t"})
    assert (loaded.mcp.enabled, [each.name for each in loaded.mcp.servers]) == (True, ["git"])
    assert config.stat().st_mode & 0o777 == 0o640
    assert cli.main(["mcp", "import", "mcp.json", "--write"]) == 0
    assert (
        "modelplex: git: left out, since config.toml has a server of this name\n" in capsys.readouterr().err
    )
    assert config.read_text() == text


def test_a_config_with_mcp_keeps_its_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.toml").write_text('[mcp]\nsearch = "on"\n[[mcp.servers]]\nname = "x"\ncommand = "x"\n')
    assert cli.main(["mcp", "import", "mcp.json", "--write", "--config", "other.toml"]) == 0
    assert "other.toml: set enabled = true in [mcp] to serve them" in capsys.readouterr().err
    assert [each.name for each in load("other.toml", environ={"GIT_TOKEN": "t"}).mcp.servers] == ["x", "git"]


@pytest.mark.parametrize("text", ["mcp = { enabled = true }\n", "not toml"])
def test_a_config_that_takes_no_table_is_left_alone(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.toml").write_text(text)
    assert cli.main(["mcp", "import", "mcp.json", "--write"]) == 1
    assert "modelplex: config.toml: " in capsys.readouterr().err
    assert (folder / "config.toml").read_text() == text


LITELLM = """\
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}
  - model_name: claude
    litellm_params: {model: claude-x, api_key: sk-ant-0123456789abcdef}
    model_info: {input_cost_per_token: 0.000003, output_cost_per_token: 0.000015}
"""


def test_a_config_of_litellm_becomes_one_of_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "litellm.yaml").write_text(LITELLM)
    assert cli.main(["import", "litellm", "litellm.yaml"]) == 0
    out, err = capsys.readouterr()
    (folder / "config.toml").write_text(out)
    config = load("config.toml", environ={"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    assert [each.name for each in config.providers] == ["openai", "anthropic"]
    assert config.aliases == {"claude": ("anthropic/claude-x",)}
    assert config.prices[0].input == 3.0
    assert "sk-ant" not in out + err


def test_json_needs_no_yaml_and_yaml_is_asked_for_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (folder / "litellm.yaml").write_text(LITELLM)
    assert cli.main(["import", "litellm", "litellm.yaml"]) == 1
    assert "modelplex: reading YAML needs the extra modelplex[yaml]: pip install" in capsys.readouterr().err
    (folder / "litellm.json").write_text('{"model_list": []}')
    assert cli.main(["import", "litellm", "litellm.json"]) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "litellm.yaml: while parsing"),
        ("a: 1", "there is no model_list"),
        ("- 1", "there is no model_list"),
    ],
)
def test_another_file_is_refused(
    text: str, reason: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "litellm.yaml").write_text(text)
    assert cli.main(["import", "litellm", "litellm.yaml"]) == 1
    assert reason in capsys.readouterr().err


def test_a_missing_file_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mcp", "import", "none.json"]) == 1
    assert capsys.readouterr().err == "modelplex: none.json: No such file or directory\n"
