"""Agents that are added and removed over the admin socket."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import gateway
from tests.processes import Answer, chat, exchange, names, read_response, request, served, until

DEMO = '[[providers]]\ntype = "demo"\n'


def config(folder: Path, *, more: str = "") -> str:
    return f'[server]\nstate_folder = "{folder / "state"}"\nadmin_socket = "{folder / "admin.sock"}"\n{DEMO}{more}'


async def ask(
    folder: Path, method: str, name: str, body: Any = None, *, socket: str = "admin.sock"
) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    sent = request(method, f"/_internal/agents/{name}", data)
    return read_response(await exchange(str(folder / socket), sent), head=method == "HEAD")


async def status(path: Path) -> int:
    sent = request("POST", "/v1/chat/completions", chat("demo"))
    return read_response(await exchange(str(path), sent)).status


async def test_an_agent_is_added_read_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    agent = {"socket": str(path), "token": "a-secret-token", "rate": {"requests": 2}}
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        listed = running.process._gateway
        made = await ask(tmp_path, "PUT", "a", agent)
        assert (made.status, made.json) == (200, {"agent": "a", "outcome": "created"})
        assert [await status(path) for _ in range(3)] == [200, 200, 429]
        assert (await ask(tmp_path, "PUT", "a", agent)).json["outcome"] == "unchanged"
        assert (await ask(tmp_path, "PUT", "a", {**agent, "rate": {"requests": 3}})).json[
            "outcome"
        ] == "replaced"
        # What it has used still counts.
        assert [await status(path) for _ in range(2)] == [200, 429]
        shown = await ask(tmp_path, "GET", "a")
        assert b"a-secret-token" not in shown.body
        assert (shown.json["source"], shown.json["settings"]["rate"]["requests"]) == ("api", 3)
        assert shown.json["usage"]["last_minute"]["requests"] == 3
        assert (await ask(tmp_path, "HEAD", "a")).status == 200
        assert (await ask(tmp_path, "DELETE", "a")).json["outcome"] == "deleted"
        assert not path.exists()
        assert (await ask(tmp_path, "GET", "a")).error["code"] == "agent_not_found"
        # Providers and their lists of models are left alone.
        assert running.process._gateway is listed


async def test_an_added_agent_has_cached_answers_of_its_own_policy(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    agent = {"socket": str(path), "cache": True}

    async def asked() -> tuple[int, bool]:
        sent = request("POST", "/v1/chat/completions", chat("demo"))
        answer = read_response(await exchange(str(path), sent))
        return answer.status, "x-modelplex-recording" in answer.headers

    async with gateway(config(tmp_path), folder=tmp_path):
        await ask(tmp_path, "PUT", "a", agent)
        assert [await asked() for _ in range(2)] == [(200, False), (200, True)]
        await ask(tmp_path, "PUT", "a", {**agent, "rate": {"requests": 100}})
        assert await asked() == (200, True)
        await ask(tmp_path, "PUT", "a", {**agent, "models": ["other"]})
        assert await asked() == (404, False)
        await ask(tmp_path, "DELETE", "a")
        await ask(tmp_path, "PUT", "a", {**agent, "policy": "open"})
        assert await asked() == (200, False)
        await ask(tmp_path, "PUT", "a", {**agent, "cache": False})
        assert await asked() == (200, False)


async def test_an_agent_outlives_a_restart_and_the_config_file_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with gateway(config(tmp_path), folder=tmp_path):
        assert (await ask(tmp_path, "PUT", "a", {"socket": str(path)})).status == 200
    (kept,) = (each for each in (tmp_path / "state").iterdir() if each.suffix == ".json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    async with gateway(config(tmp_path), folder=tmp_path):
        assert await status(path) == 200
    own = f'[[agents]]\nname = "a"\nsocket = "{tmp_path / "own.sock"}"\n'
    async with gateway(config(tmp_path, more=own), folder=tmp_path) as running:
        assert await status(tmp_path / "own.sock") == 200
        assert not path.exists()
        refused = await ask(tmp_path, "PUT", "a", {"socket": str(path)})
        assert (refused.status, refused.error["code"]) == (409, "agent_in_config")
        # What is kept of the agent of that name may be removed.
        assert (await ask(tmp_path, "DELETE", "a")).json["outcome"] == "deleted"
        refused = await ask(tmp_path, "DELETE", "a")
        assert (refused.status, refused.error["code"]) == (409, "agent_in_config")
        assert (await ask(tmp_path, "GET", "a")).json["source"] == "config"
        log = (tmp_path / "log.json").read_text
        await until(lambda: "an agent of the API is not used" in log(), what="the line")
        assert running.process.addresses


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("a", {}, 400, "agent_invalid"),
        ("a", {"socket": "x", "budgett": {}}, 400, "agent_invalid"),
        ("a b", {"socket": "x"}, 400, "agent_invalid"),
        ("a", {"socket": "FOLDER/none/x.sock"}, 409, "agent_socket_unusable"),
        ("a", {"socket": "FOLDER/admin.sock"}, 409, "agent_socket_used"),
        ("a", {"socket": "FOLDER/config.toml"}, 409, "agent_socket_unusable"),
    ],
)
async def test_a_refused_agent_changes_nothing(
    name: str, body: dict[str, Any], status: int, code: str, tmp_path: Path
) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        before = names(tmp_path)
        body = json.loads(json.dumps(body).replace("FOLDER", str(tmp_path)))
        refused = await ask(tmp_path, "PUT", name.replace(" ", "%20"), body)
        assert (refused.status, refused.error["code"]) == (status, code)
        assert names(tmp_path) == before
        assert running.process._config.agents == ()
        assert not [each for each in (tmp_path / "state").iterdir() if each.suffix == ".json"]


async def test_agents_cannot_be_kept_on_a_full_disk_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        del fd
        raise OSError(28, "No space left on device")

    async with gateway(config(tmp_path), folder=tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr("modelplex.server.stored_agents.os.fsync", full)
            refused = await ask(tmp_path, "PUT", "a", {"socket": str(tmp_path / "a.sock")})
        assert (refused.status, refused.error["code"]) == (500, "agents_not_stored")
        assert "No space left" in refused.error["message"]
        assert not [name for name in names(tmp_path) if name.startswith((".a", "a.sock"))]


async def test_only_the_admin_socket_and_admins_have_it(tmp_path: Path) -> None:
    own = f'[[agents]]\nname = "b"\nsocket = "{tmp_path / "b.sock"}"\n'
    async with gateway(config(tmp_path, more=own), folder=tmp_path) as running:
        for socket in ("b.sock", "m.sock"):
            for method in ("PUT", "GET", "DELETE"):
                refused = await ask(tmp_path, method, "b", {"socket": "/x"}, socket=socket)
                assert refused.status == 404
        assert (await running.ask("PUT", "/_internal/agents/b", {"socket": "/x"})).status == 401
        assert (await ask(tmp_path, "POST", "b", {})).status == 405
        assert (await ask(tmp_path, "GET", "b")).json["source"] == "config"


async def test_agents_of_several_workers(tmp_path: Path) -> None:
    text = config(tmp_path).replace("[server]", "[server]\nworkers = 2", 1)
    async with served(text, folder=tmp_path):
        paths = [tmp_path / f"{n}.sock" for n in range(4)]
        for path in paths:
            made = await ask(tmp_path, "PUT", path.stem, {"socket": str(path), "rate": {"requests": 1}})
            assert made.json == {"agent": path.stem, "outcome": "created"}
            assert await status(path) == 200
            assert await status(path) == 429
        rows = [(await ask(tmp_path, "GET", path.stem)).json for path in paths]
        assert [row["source"] for row in rows] == ["api"] * 4
        assert {row["usage"]["worker"] for row in rows} == {1, 2}
        assert [row["usage"]["last_minute"]["requests"] for row in rows] == [1] * 4
        refused = await ask(tmp_path, "PUT", "x", {"socket": str(tmp_path / "config.toml")})
        assert (refused.status, refused.error["code"]) == (409, "agent_socket_unusable")
        refused = await ask(tmp_path, "PUT", "x", {"token": "a-long-enough-token"})
        assert (refused.status, refused.error["code"]) == (409, "agent_split")
        assert (await ask(tmp_path, "DELETE", "0")).json["outcome"] == "deleted"
        assert not paths[0].exists()
        assert (await ask(tmp_path, "DELETE", "0")).status == 404
    async with served(text, folder=tmp_path):
        assert await status(paths[3]) == 200
