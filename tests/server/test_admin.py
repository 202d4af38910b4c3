"""Views: who may read them, and what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.server.admin import LISTED_MODELS, SHOWN_BREAKERS
from tests.gateways import gateway, one
from tests.upstreams import answer, chat_answer, provider

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'


async def test_health_has_details_only_on_request_and_no_secret(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1", api_key="secret-key"), folder=tmp_path) as running:
        assert (await running.ask("GET", "/health")).json == {"status": "ok", "service": "modelplex"}
        for path in ("/", "/v1", "/v1/", "/api"):
            assert (await running.ask("GET", path)).json["status"] == "ok"
        detail = await running.ask("GET", "/health?detail")
        assert detail.json["providers"] == [{"name": "up", "type": "openai", "breakers": []}]
        assert "version" in detail.json
        for path in ("/health?detail", "/_internal/status", "/_internal/config"):
            assert b"secret-key" not in (await running.ask("GET", path)).body


async def test_the_status_names_what_runs(tmp_path: Path) -> None:
    async with gateway("[aliases]\nfast = 'm'\n" + one("http://127.0.0.1:9/v1"), folder=tmp_path) as running:
        status = (await running.ask("GET", "/_internal/status")).json
        assert status["listeners"] == running.process.addresses
        assert status["config"] == str(tmp_path / "config.toml")
        assert status["aliases"] == {"fast": ["m"]}
        (row,) = status["providers"]
        assert (row["name"], row["models"], row["keys"]) == ("up", ["m"], 1)
        assert status["uptime_seconds"] >= 0
        assert (await running.ask("GET", "/_internal/mcp")).json == {"enabled": False, "servers": []}
        assert (
            (await running.ask("GET", "/_internal/metrics")).headers["content-type"].startswith("text/plain")
        )


async def test_there_is_no_admin_api_on_a_socket_and_no_unknown_view(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        assert (await running.ask("GET", "/_internal/status", unix=True)).status == 404
        for path in ("/_internal/unknown", "/_internal/status/", "/_internal/page"):
            assert (await running.ask("GET", path)).status == 404


async def test_the_circuits_of_a_provider_are_shown_worst_first_up_to_a_limit(tmp_path: Path) -> None:
    async with provider(answer({"error": {"message": "broken by agent"}}, status=500)) as up:
        config = "[failover]\nretries = 0\nbreaker_failures = 1\n" + one(up.url, models='["*"]')
        async with gateway(config, folder=tmp_path) as running:
            for number in range(SHOWN_BREAKERS + 5):
                await running.chat(f"m{number}")
            (row,) = (await running.ask("GET", "/_internal/status")).json["providers"]
            assert 0 < len(row["breakers"]) <= SHOWN_BREAKERS
            states = [each["state"] for each in row["breakers"]]
            assert states == sorted(states, reverse=True)


async def test_the_reasons_of_other_callers_are_not_shown_to_a_caller(tmp_path: Path) -> None:
    async with provider(answer({"error": {"message": "distinctive reason"}}, status=500)) as up:
        config = "[failover]\nretries = 0\nbreaker_failures = 1\n" + one(up.url)
        async with gateway(config, folder=tmp_path) as running:
            await running.chat()
            own = await running.ask("GET", "/health?detail")
            other = await running.ask("GET", "/health?detail", unix=True)
            reasons = [each["reason"] for each in own.json["providers"][0]["breakers"]]
            assert any(reasons)
            assert not any(each["reason"] for each in other.json["providers"][0]["breakers"])
            status = await running.ask("GET", "/_internal/status")
            assert [each["reason"] for each in status.json["providers"][0]["breakers"]] == reasons


async def test_a_model_that_an_agent_may_not_use_is_a_404_that_lists_some_of_its_own(tmp_path: Path) -> None:
    names = [f"mine-{number}" for number in range(LISTED_MODELS + 2)]
    socket = tmp_path / "a.sock"
    agents = (
        f'[[agents]]\nname = "a"\nsocket = "{socket}"\nmodels = ["mine-*"]\n'
        '[[agents]]\nname = "none"\ntoken = "a-long-enough-token"\nmodels = ["nothing-*"]\n'
    )
    async with provider(answer(chat_answer())) as up:
        models = str([*names, "other"]).replace("'", '"')
        async with gateway(one(up.url, models=models) + agents, folder=tmp_path) as running:
            running.socket = str(socket)
            for refused in (
                await running.chat("other", unix=True),
                await running.chat("absent", unix=True),
                await running.ask("GET", "/v1/models/other", unix=True),
                await running.ask("POST", "/api/show", {"model": "other"}, unix=True),
            ):
                assert refused.status == 404
                text = refused.body.decode()
                assert all(name in text for name in names[:LISTED_MODELS])
                assert names[-1] not in text
                assert "GET /models/v1/models lists all" in text
            bearer = [(b"authorization", b"Bearer a-long-enough-token")]
            refused = await running.ask("GET", "/v1/models/other", headers=bearer)
            assert "It has none yet." in refused.error["message"]
            assert not up.seen


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"model": "demo"}', 200), (b'{"name": "demo"}', 200), (b"{}", 404), (b"[]", 400), (b"{", 400)],
)
async def test_a_model_is_shown_by_either_member(body: bytes, status: int, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        assert (await running.ask("POST", "/api/show", body)).status == status


async def test_one_model_is_known_by_any_name_that_a_call_could_use(tmp_path: Path) -> None:
    async with gateway("[aliases]\nfast = 'demo'\n" + DEMO, folder=tmp_path) as running:
        for name, owner in (("demo", "demo"), ("demo/demo", "demo"), ("fast", "")):
            got = await running.ask("GET", f"/v1/models/{name.replace('/', '%2F')}")
            assert (got.status, got.json["id"]) == (200, name)
            assert owner in got.json["owned_by"]
        assert (await running.ask("GET", "/v1/models/absent")).status == 404
