"""`modelplex client`: fresh environments, and the SDKs in them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from modelplex import cli
from modelplex.commands import client_install
from modelplex.commands.client_install import InstallFault, active_python, install, node_line, uninstall
from tests.peers import node
from tests.processes import served

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
AGENT = """\
import sys
import anthropic, openai
from google import genai

url = f"unix:{sys.argv[1]}"
hello = [{"role": "user", "content": "Hello"}]
with openai.OpenAI(base_url=url, api_key="unused") as sdk:
    print(sdk.responses.create(model="demo", input="Hello").output_text)
with anthropic.Anthropic(base_url=url, api_key="unused") as sdk:
    print(sdk.messages.create(model="demo", max_tokens=1000, messages=hello).content[0].text)
with genai.Client(api_key="unused", http_options=genai.types.HttpOptions(base_url=url)) as sdk:
    print(sdk.models.generate_content(model="demo", contents="Hello").text)
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    """The interpreter of a fresh environment that sees the SDKs of this one."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    sdks = next(each for each in sys.path if each.endswith("site-packages"))
    (site / "sdks.pth").write_text(f"{sdks}\n")
    return str(folder / "bin" / "python")


def has_hook(python: str) -> bool:
    code = "import sys; print('modelplex_client' in sys.modules)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    return done.stdout == "True\n"


async def answers(python: str, socket: str) -> list[str]:
    agent = await asyncio.create_subprocess_exec(
        python, "-c", AGENT, socket, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(agent.communicate(), WAIT_S)
    assert agent.returncode == 0, err
    return out.decode().splitlines()


async def test_after_an_installation_each_sdk_takes_a_socket_as_it_is(python: str, tmp_path: Path) -> None:
    said = await asyncio.to_thread(install, python)
    assert said.startswith(f"programs of {python} may use unix: base URLs now: ")
    async with served(DEMO, folder=tmp_path) as gateway:
        assert len(await answers(python, gateway.socket)) >= 3


async def test_the_package_alone_does_the_same(python: str, tmp_path: Path) -> None:
    uv = str(ROOT / ".cache" / "uv" / "bin" / "uv")
    environ = {
        **os.environ,
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(ROOT / ".cache" / "packages")),
    }

    def build() -> None:
        for command in (
            [
                uv,
                "build",
                "--quiet",
                "--offline",
                "--wheel",
                "--out-dir",
                str(tmp_path),
                str(ROOT / "clients" / "python"),
            ],
            [
                uv,
                "pip",
                "install",
                "--quiet",
                "--offline",
                "--python",
                python,
                "modelplex-client",
                "--find-links",
                str(tmp_path),
                "--no-index",
            ],
        ):
            done = subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False
            )
            assert done.returncode == 0, done.stderr

    await asyncio.to_thread(build)
    async with served(DEMO, folder=tmp_path) as gateway:
        assert len(await answers(python, gateway.socket)) >= 3
    assert (await asyncio.to_thread(install, python)).endswith("has the package modelplex-client already")
    with pytest.raises(InstallFault, match="pip uninstall modelplex-client"):
        uninstall(python)


def test_the_package_has_the_gateways_own_files() -> None:
    package = ROOT / "clients" / "python" / "src" / "modelplex_client"
    assert {
        each.name: each.resolve() for each in package.iterdir() if each.name != "__pycache__"
    } == client_install.FILES
    assert (
        ROOT / "clients" / "python" / "site" / client_install.PTH
    ).read_text() == "import modelplex_client\n"


def test_what_was_installed_is_removed(python: str) -> None:
    site = Path(client_install.inspect(python).site)
    before = sorted(each.name for each in site.iterdir())
    install(python)
    assert has_hook(python)
    assert install(python)  # a second time writes the files anew
    assert uninstall(python) == f"programs of {python} have no unix: base URLs any more"
    assert not has_hook(python)
    assert sorted(each.name for each in site.iterdir()) == before
    assert uninstall(python) == f"{site} has no unix: base URLs"


def test_the_active_environment_comes_before_the_path(python: str, tmp_path: Path) -> None:
    folder = str(Path(python).parent.parent)
    assert active_python({"VIRTUAL_ENV": folder, "PATH": ""}) == python
    assert active_python({"CONDA_PREFIX": folder, "PATH": ""}) == python
    assert active_python({"VIRTUAL_ENV": str(tmp_path), "PATH": str(Path(python).parent)}) == f"{python}3"
    with pytest.raises(InstallFault, match="there is no python3"):
        active_python({"PATH": str(tmp_path)})


def _answering(tmp_path: Path, **facts: object) -> str:
    """A program that says what an interpreter would."""
    said = {"site": str(tmp_path / "site"), "version": [3, 12], "managed": False, **facts}
    file = tmp_path / "python"
    file.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"version": [3, 8]}, "is Python 3.8: 3.9 or newer is needed"),
        ({"managed": True}, "belongs to the system's packages"),
        ({"site": "/proc/none"}, "/proc/none"),
        ({"site": 5}, "is no Python that starts"),
    ],
)
def test_an_environment_that_cannot_have_it_is_a_sentence(
    facts: dict[str, object], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["client", "install", "--python", _answering(tmp_path, **facts)]) == 1
    report = capsys.readouterr().err
    assert report.startswith("modelplex: ")
    assert reason in report


def test_no_interpreter_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["client", "uninstall", "--python", "/none/python"]) == 1
    assert "/none/python is no Python that starts" in capsys.readouterr().err


# --- Node


def test_the_line_for_node_works_in_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["client", "node"]) == 0
    line = capsys.readouterr().out
    code = "fetch('unix:/no/such.sock/v1/models').catch((error) => console.log(String(error.cause ?? error)))"
    done = subprocess.run(
        ["sh", "-c", f'{line}exec {node()} -e "{code}"'],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
        env={"NODE_OPTIONS": "--no-warnings"},
    )
    assert "/no/such.sock" in done.stdout
    assert "socket" in done.stdout


def test_a_path_with_a_space_is_a_url() -> None:
    assert node_line(Path("/a b/client.mjs")).endswith('--import=file:///a%20b/client.mjs"\n')


@pytest.mark.parametrize(
    ("name", "begin"), [(".profile", "export NODE_OPTIONS="), ("a.fish", "set -gx NODE_OPTIONS ")]
)
def test_the_line_is_appended_once(
    name: str, begin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text("mine")
    for said in ("appended to", "has the line already"):
        assert cli.main(["client", "node", "--write", str(file)]) == 0
        assert said in capsys.readouterr().out
    first, second = file.read_text().splitlines()
    assert first == "mine"
    assert second.startswith(begin)
