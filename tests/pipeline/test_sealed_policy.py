"""Where a provider is, as far as the sealed policy asks, and the switches of what it is sent."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Config, ProviderConfig
from modelplex.core.caller import Caller
from modelplex.core.request import Attempt, Quirks
from modelplex.dialects.raw_request import read_request
from modelplex.pipeline.sealed_policy import SealedPolicy, egress_of
from tests.gateways import gateway, one
from tests.upstreams import answer, provider


@pytest.mark.parametrize(
    ("kind", "url", "moved"),
    [
        ("openai", "https://api.openai.com/v1", False),
        ("openai", "https://eu.api.openai.com/v1", False),
        ("openai", "https://api.openai.com.example.org/v1", True),
        ("openai", "https://myapi.openai.com", True),
        ("openai", "http://127.0.0.1:8000/v1", True),
        ("openai", "unix:/run/server.sock:/v1", True),
        ("azure", "https://mine.openai.azure.com", False),
    ],
)
def test_a_provider_at_another_address_than_its_types_is_known(kind: str, url: str, moved: bool) -> None:
    config = Config(providers=(ProviderConfig(name="up", type=kind, base_url=url),))
    assert egress_of(config, machine=b"m").moved == (frozenset({"up"}) if moved else frozenset())


def test_an_aliass_target_spells_a_model_of_the_provider_that_it_names_alone() -> None:
    names = ("openai", "openrouter")
    providers = tuple(ProviderConfig(name=name, type=name, models=("*",)) for name in names)
    config = Config(providers=providers, aliases={"a": ("openai/x-search", "bare", "other/y")})
    spelled = egress_of(config, machine=b"m").spelled
    assert ("openai", "x-search") in spelled
    assert {name for name, model in spelled if model.endswith("x-search")} == {"openai"}
    assert {name for name, model in spelled if model in {"bare", "other/y"}} == set(names)


def test_the_switches_of_a_body_are_those_of_its_attempt_and_caller_whoever_came_before() -> None:
    config = Config(providers=(ProviderConfig(name="up", type="openai", base_url="http://127.0.0.1:1/v1"),))
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    raw = read_request(body, endpoint="chat/completions", dialect="openai_chat")
    stores, refuses = Quirks(stores_chat=True), Quirks(stores_chat=True, refuses=("store",))
    asked = [
        (stores, frozenset[str](), True),
        (Quirks(), frozenset[str](), False),
        (refuses, frozenset[str](), False),
        (stores, frozenset({"store"}), False),
    ]
    for order in itertools.permutations(asked):
        egress = egress_of(config, machine=b"m")
        for quirks, allowed, is_switched in (*order, *order):
            caller = Caller(listener="unix:/s", kind="unix", sealed=True, allowed=allowed)
            attempt = Attempt(provider="up", model="m", dialect="openai_chat", quirks=quirks)
            policy = SealedPolicy(raw, caller, egress)
            sent, _ = policy.written(body, attempt, is_passthrough=True)
            assert (b'"store":false' in sent) is is_switched


ADDRESS = "https://example.com/a.png"
FETCHED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ADDRESS}}]}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": ADDRESS}]}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": ADDRESS}]}]}),
    ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": ADDRESS}}]}]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), FETCHED)
async def test_a_sealed_caller_makes_no_provider_fetch_an_address(
    path: str, body: dict[str, Any], tmp_path: Path
) -> None:
    """Gemini would fetch it: translated to `fileData`."""
    said = {"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]}
    async with provider(answer(said)) as up:
        config = one(up.url.removesuffix("/v1"), type="gemini", api_key="k")
        async with gateway(config, folder=tmp_path) as gw:
            refused = await gw.ask("POST", path, {"model": "m", **body}, unix=True)
            assert (refused.status, up.seen) == (400, [])
            passed = await gw.ask("POST", path, {"model": "m", **body})
        assert passed.status == 200, passed.body
        (part,) = up.seen[0].json["contents"][0]["parts"]
        assert part["fileData"]["fileUri"] == ADDRESS
