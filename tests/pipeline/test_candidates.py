"""Which attempts a request gets: by priority, price and what the sealed policy lets out."""

from __future__ import annotations

from pathlib import Path

from tests.gateways import gateway, one
from tests.upstreams import answer, chat_answer, provider

UNREACHABLE = "http://127.0.0.1:9/v1"
FAILOVER = "[failover]\nbackoff = 0.0\n"


async def test_attempts_are_made_by_priority(tmp_path: Path) -> None:
    async with provider(answer(chat_answer())) as up:
        config = (
            one(up.url, name="second", priority=2) + one(UNREACHABLE, name="first", priority=1) + FAILOVER
        )
        async with gateway(config, folder=tmp_path) as gw:
            assert (await gw.chat()).status == 200
            record = await gw.record()
            assert [attempt.provider for attempt in record.attempts] == ["first", "second"]


async def test_a_sealed_caller_names_no_model_that_a_provider_is_not_known_to_serve(tmp_path: Path) -> None:
    """An invented name would reach the provider, and could say anything."""
    async with provider(answer({"error": {"message": "no"}}, status=500)) as up:
        config = f'[[providers]]\nname = "up"\ntype = "openai"\nbase_url = "{up.url}"\n'
        async with gateway(config, folder=tmp_path) as gw:
            refused = await gw.chat(model="secret-words", unix=True)
            assert (refused.status, refused.error["param"]) == (404, "model")
            assert refused.error["message"].startswith("The model 'secret-words' is not known here: ")
            assert not any(seen.target.endswith("/chat/completions") for seen in up.seen)


async def test_a_sealed_caller_may_name_what_the_config_spells_out(tmp_path: Path) -> None:
    async with provider(answer(chat_answer())) as up:
        async with gateway(one(up.url), folder=tmp_path) as gw:
            assert (await gw.chat(unix=True)).status == 200


async def test_an_agent_with_a_budget_in_dollars_needs_a_known_price(tmp_path: Path) -> None:
    socket = tmp_path / "coder.sock"
    agent = (
        f'[[agents]]\nname = "coder"\nsocket = "{socket}"\nbudget = {{ usd = 5.0 }}\non_unpriced = "refuse"\n'
    )
    state = f'[server]\nstate_folder = "{tmp_path / "state"}"\n'
    async with provider(answer(chat_answer())) as up:
        async with gateway(state + one(up.url) + agent, folder=tmp_path) as gw:
            gw.socket = str(socket)
            refused = await gw.chat(unix=True)
            assert (refused.status, refused.error["code"]) == (402, "no_price_known")
            assert refused.error["message"].startswith(
                "Policy: no price is known of up/m, and the agent 'coder'"
            )
            assert up.seen == []
