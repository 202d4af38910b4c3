"""The sealed policy through a whole gateway, on real sockets: models, switches, and rules that are
allowed for some callers (docs/reference/isolation-requirements.md#compatible-providers, S18 to S21,
S48).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import ConfigError, load
from tests.gateways import WAIT_S, gateway, one
from tests.pairs import SPEAKERS
from tests.pairs import Answer as Said
from tests.sealed import CANARY, JSON, NO_RETRIES, on_socket, path_of, plain, stripped, told
from tests.upstreams import Act, Scripted, answer, chat_answer, provider

KEY = "k" * 12
URL = "https://canary-7c1f.example/x"
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}]
SEARCH: dict[str, Any] = {"tools": [{"type": "web_search"}]}
CHAT = "/v1/chat/completions"


def asked(up: Scripted) -> list[dict[str, Any]]:
    """The bodies of its calls; to be asked for a list of models is none."""
    return [seen.json for seen in up.seen if seen.body]


RESPONSE = SPEAKERS["responses"](Said(text=("Hello",)), "m")[1]
REPLY = answer(chat_answer())
NO_LIST = answer({"error": {"message": "no list"}}, status=500)


def ok() -> Act:
    return REPLY


@asynccontextmanager
async def openai(listing: Act = NO_LIST) -> AsyncGenerator[Scripted]:
    """A provider that answers in the form of the path."""
    async with provider() as up:

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            last = up.seen[-1]
            if not last.body:
                await listing(reader, writer)
            elif "/responses" in last.target:
                await answer(RESPONSE)(reader, writer)
            else:
                await REPLY(reader, writer)

        up.scripts[:] = [act]
        yield up


def unnamed(up: Scripted) -> str:
    """A provider whose models the config does not name."""
    return one(up.url, api_key=KEY).replace('models = ["m"]\n', "")


# --- S18: an agent's models -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["chat", "responses", "messages", "gemini", "ollama"])
async def test_s18_a_model_outside_the_agents_list_is_a_404_wherever_the_form_names_it(
    tmp_path: Path, form: str
) -> None:
    socket = tmp_path / "ann.sock"
    agent = f'[[agents]]\nname = "ann"\nsocket = "{socket}"\nmodels = ["mine", "my-*"]\n'
    names = '["mine", "theirs", "my-2"]'
    async with (
        provider(ok()) as up,
        gateway(one(up.url, models=names, type="llamacpp") + agent, folder=tmp_path) as gw,
    ):
        for model in ("theirs", "up/theirs", "Mine", "unheard-of"):
            got = await on_socket(gw, socket, path_of(form, model), plain(form, model))
            assert got.status == 404, got.body
            assert told(form, got)[1] in {"model_not_found", ""}
            assert "theirs" not in told(form, got)[0].replace(model, "")
        assert up.seen == []
        for model in ("mine", "my-2"):
            got = await on_socket(gw, socket, path_of(form, model), plain(form, model))
            assert got.status == 200, got.body
        if form == "chat":
            body = plain(
                "chat", "mine", fallbacks=["theirs"], models=["theirs"], moderation={"model": "theirs"}
            )
            got = await on_socket(gw, socket, CHAT, body)
            assert got.status in {200, 400}
            assert b"theirs" not in up.seen[-1].body


async def test_s18_the_name_that_the_gateway_writes_is_not_held_to_the_agents_list(tmp_path: Path) -> None:
    """An agent may ask for an alias alone. A request for Gemini's vectors has the provider's own
    name within the body.
    """
    socket = tmp_path / "ann.sock"
    rules = f'[aliases]\nfast = "up/m"\n[[agents]]\nname = "ann"\nsocket = "{socket}"\nmodels = ["fast"]\n'
    reply: dict[str, Any] = {"embeddings": [{"values": [0.5]}]}
    async with provider(answer(reply)) as up:
        config = one(up.url.removesuffix("/v1"), type="gemini", models='["m"]', api_key=KEY) + rules
        async with gateway(config, folder=tmp_path) as gw:
            got = await on_socket(gw, socket, "/v1/embeddings", {"model": "fast", "input": "Hi"})
            assert got.status == 200, got.body
            assert [sent for sent in asked(up) if "models/m" not in json.dumps(sent)] == []
            theirs = {"requests": [{"model": "models/theirs", "content": {"parts": [{"text": "t"}]}}]}
            up.seen.clear()
            got = await on_socket(gw, socket, "/v1beta/models/fast:batchEmbedContents", theirs)
            assert (got.status, asked(up)) == (400, [])
            assert "unlisted-model" in told("gemini", got)[0]


# --- S19: names that reach out by themselves ------------------------------------------------------

REACHING = [
    ("openai", "gpt-4o-search-preview"), ("openai", "gpt-4o-mini-search-preview-2025-03-11"), ("openai", "o3-deep-research"), ("openai", "O4-Mini-Deep-Research-2025-06-26"),
    ("groq", "groq/compound"), ("groq", "compound-beta-mini"), ("openrouter", "anthropic/claude-sonnet-4.5:online"), ("openrouter", "perplexity/sonar-pro"),
    ("ollama", "gpt-oss:120b-cloud"), ("ollama", "glm-4.6:cloud"),
]  # fmt: skip


def serving(up: Scripted, kind: str, models: str) -> str:
    url = up.url.removesuffix("/v1") if kind == "ollama" else up.url
    return one(url, type=kind, models=models, **({} if kind == "ollama" else {"api_key": KEY})) + NO_RETRIES


@pytest.mark.parametrize(("kind", "model"), REACHING)
async def test_s19_a_name_that_reaches_out_is_refused_though_a_glob_matches_and_served_where_it_is_spelled_out(
    tmp_path: Path, kind: str, model: str
) -> None:
    said = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop", "message": {"role": "assistant", "content": "x"}}  # fmt: skip
    act = answer(said) if kind == "ollama" else ok()
    async with provider(act) as up:
        for glob in ('["*"]', json.dumps([model[:4] + "*"]), json.dumps(["*" + model[-4:]])):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            async with gateway(serving(up, kind, glob), folder=folder) as gw:
                for name in (model, f"up/{model}"):
                    got = await gw.chat(name, unix=True)
                    assert got.status == 400, (glob, got.body)
                    assert (got.error["code"], got.error["param"]) == ("policy_denied", "model")
                    assert any(f"(rule {rule})" in got.error["message"] for rule in ("self-searching-model", "off-machine-model"))  # fmt: skip
                assert asked(up) == []
        spelled = (
            serving(up, kind, json.dumps(["*", model])),
            serving(up, kind, json.dumps([model[:4] + "*"])) + f'\n[aliases]\nquick = "up/{model}"\n',
        )
        for config, name in zip(spelled, (model, "quick"), strict=True):
            folder = tmp_path / f"s{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            up.seen.clear()
            async with gateway(config, folder=folder) as gw:
                assert (await gw.chat(name, unix=True)).status == 200
                assert asked(up)[0]["model"] == model
        folder = tmp_path / "open"
        folder.mkdir()
        async with gateway(serving(up, kind, '["*"]'), folder=folder) as gw:
            assert (await gw.chat(model)).status == 200


# --- S20, S38: switches ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("openai", {"store": False}),
        ("azure", {"store": False}),
        ("perplexity", {"disable_search": True}),
        ("groq", {}),
        ("openrouter", {}),
        ("llamacpp", {}),
    ],
)
async def test_s20_who_searches_or_stores_by_default_is_told_not_to_on_every_sealed_request(
    tmp_path: Path, kind: str, members: dict[str, Any]
) -> None:
    more = {"api_version": "2024-10-21"} if kind == "azure" else {}
    config = one(up_url := "http://127.0.0.1:9", type=kind, models='["m"]', api_key=KEY, **more)
    if kind == "openai":
        config += "[providers.quirks]\nstores_chat = true\n"  # it is not at OpenAI's address here
    async with openai() as up, gateway(config.replace(up_url, up.url), folder=tmp_path) as gw:
        for form in ("chat", "messages", "gemini", "responses", "ollama"):
            up.seen.clear()
            got = await gw.ask("POST", path_of(form, "m"), plain(form, "m"), unix=True)
            assert got.status == 200, got.body
            sent = up.seen[0].json
            wanted = {"store": False} if "/responses" in up.seen[0].target else members
            assert {name: sent[name] for name in ("store", "disable_search") if name in sent} == wanted
        up.seen.clear()
        said: dict[str, Any] = {"store": True, "disable_search": False}
        await gw.chat(unix=True, **said)
        assert {name: up.seen[0].json.get(name) for name in members} == members
        assert not {"store", "disable_search"} & (set(up.seen[0].json) - set(members))
        up.seen.clear()
        await gw.chat(**said)  # an open caller's word holds
        assert {name: up.seen[0].json[name] for name in said} == said


@pytest.mark.parametrize(
    ("kind", "quirks"),
    [
        ("openai", ""),
        ("azure", 'refuses = ["store"]'),
        ("openai", 'stores_chat = true\nrefuses = ["store"]'),
        ("cerebras", ""),
        ("gemini-openai", ""),
        ("huggingface", ""),
        ("mistral", ""),
        ("nvidia", ""),
    ],
)
async def test_s20_a_server_that_refuses_store_or_is_not_the_types_own_is_not_sent_it(
    tmp_path: Path, kind: str, quirks: str
) -> None:
    more = {"api_version": "2024-10-21"} if kind == "azure" else {}
    config = one(up_url := "http://127.0.0.1:9", type=kind, models='["m"]', api_key=KEY, **more)
    config += f"[providers.quirks]\n{quirks}\n"
    async with openai() as up, gateway(config.replace(up_url, up.url), folder=tmp_path) as gw:
        words: list[dict[str, Any]] = [{}, {"store": False}, {"store": True}]
        for said in words:
            up.seen.clear()
            assert (await gw.chat(unix=True, **said)).status == 200
            sent = up.seen[0].json
            # Such a server is sent the client's own word where nothing says that it refuses it.
            assert sent.get("store") is (
                False if said == {"store": False} and not quirks and kind == "openai" else None
            )
        if "refuses" in quirks:
            up.seen.clear()
            await gw.ask("POST", path_of("responses", "m"), plain("responses", "m"), unix=True)
            assert "store" not in up.seen[0].json


async def test_s20_where_the_rule_is_open_the_clients_word_holds(tmp_path: Path) -> None:
    rules = '\n[policy.allow]\nsocket = ["store", "web-search"]\n'
    async with provider(ok()) as up:
        for kind in ("openai", "perplexity"):
            folder = tmp_path / kind
            folder.mkdir()
            up.seen.clear()
            async with gateway(one(up.url, type=kind, api_key=KEY) + rules, folder=folder) as gw:
                await gw.chat(unix=True, store=True, disable_search=False)
                assert up.seen[0].json["store"] is True
                assert up.seen[0].json["disable_search"] is False
                await gw.chat(unix=True)
                assert not {"store", "disable_search"} & set(up.seen[1].json)


# --- S21: aliases, and names by guess -------------------------------------------------------------


@pytest.mark.parametrize("form", ["chat", "responses", "messages", "gemini", "ollama"])
async def test_s21_an_alias_never_shows_upstream(tmp_path: Path, form: str) -> None:
    config = one("URL", models='["m"]', api_key=KEY) + f'\n[aliases]\n"{CANARY}" = "up/m"\n"*" = "up/m"\n'
    async with openai() as up, gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
        for name in (CANARY, f"{CANARY}-that-nobody-configured"):
            got = await gw.ask("POST", path_of(form, name), plain(form, name), unix=True)
            assert got.status == 200, got.body
        assert len(up.seen) == 2
        assert all(CANARY.encode() not in seen.head + seen.body for seen in up.seen)


@pytest.mark.parametrize("form", ["chat", "responses", "messages", "gemini", "ollama"])
async def test_s21_a_name_that_nobody_configured_is_not_sent_by_guess(tmp_path: Path, form: str) -> None:
    """A provider whose list cannot be had might serve anything: an open caller's guess is passed
    on, a sealed one's is not.
    """
    async with openai() as up, gateway(unnamed(up), folder=tmp_path) as gw:
        for name in (CANARY, f"up/{CANARY}"):
            got = await gw.ask("POST", path_of(form, name), plain(form, name), unix=True)
            assert got.status == 404, got.body
            assert told(form, got)[1] in {"model_not_found", ""}
        assert all(CANARY.encode() not in seen.head + seen.body for seen in up.seen)
        got = await gw.ask("POST", path_of(form, CANARY), plain(form, CANARY))
        assert got.status == 200
        assert asked(up)[0]["model"] == CANARY


@pytest.mark.parametrize("unix", [True, False])
async def test_s21_a_name_that_geminis_body_repeats_is_that_of_its_path(
    tmp_path: Path, *, unix: bool
) -> None:
    row = one("URL", type="gemini", models='["m"]', api_key=KEY) + f'\n[aliases]\n"{CANARY}" = "up/m"\n'
    content = {"parts": [{"text": "x"}]}
    named = {"model": f"models/{CANARY}", "content": content}
    async with provider(
        answer({"totalTokens": 1, "embeddings": [{"values": [0.5]}], "candidates": []})
    ) as up:
        config = row.replace("URL", up.url.removesuffix("/v1"))
        async with gateway(config, folder=tmp_path) as gw:
            for method, body in (
                ("generateContent", {"model": CANARY, "contents": [content]}),
                ("countTokens", {"generateContentRequest": {"model": CANARY, "contents": [content]}}),
                ("countTokens", {"generate_content_request": {"model": CANARY, "contents": [content]}}),
                ("batchEmbedContents", {"requests": [named, {"content": content}, named]}),
                ("embedContent", named),
            ):
                up.seen.clear()
                target = f"/v1beta/models/{CANARY}:{method}"
                await gw.ask("POST", target, body, unix=unix)
                assert CANARY.encode() not in up.seen[0].head + up.seen[0].body
                assert b'"models/m"' in up.seen[0].body


async def test_s21_a_name_that_a_provider_lists_is_served(tmp_path: Path) -> None:
    listed = answer({"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]})
    async with openai(listed) as up, gateway(unnamed(up), folder=tmp_path) as gw:
        assert (await gw.chat(unix=True)).status == 200
        assert (await gw.chat("n", unix=True)).status == 404


# --- S48: what is open, and for whom --------------------------------------------------------------


async def test_s48_without_a_word_of_it_in_the_config_sockets_are_sealed_and_http_is_open(
    tmp_path: Path,
) -> None:
    async with provider(ok()) as up, gateway(one(up.url, api_key=KEY), folder=tmp_path) as gw:
        assert (await gw.chat(unix=True, messages=PICTURE)).status == 400
        assert asked(up) == []
        got = await gw.chat(messages=PICTURE, **SEARCH, metadata={"a": "b"}, store=True, made_up=1)
        assert (got.status, stripped(got)) == (200, {})
        assert asked(up)[0]["tools"] == SEARCH["tools"]
        assert asked(up)[0]["made_up"] == 1


@pytest.mark.parametrize(
    ("section", "unix", "http"),
    [
        ('everywhere = ["remote-url", "web-search"]', True, True),
        ('socket = ["remote-url", "web-search"]', True, False),
        ('http = ["remote-url", "web-search"]', False, True),
        ("", False, False),
    ],
)
async def test_s48_a_rule_is_open_for_everybody_or_for_one_kind_of_listener(
    tmp_path: Path, section: str, *, unix: bool, http: bool
) -> None:
    rules = f'\n[policy]\nhttp = "sealed"\n[policy.allow]\n{section}\n'
    async with provider(ok()) as up, gateway(one(up.url, api_key=KEY) + rules, folder=tmp_path) as gw:
        for over_socket, is_open in ((True, unix), (False, http)):
            got = await gw.chat(unix=over_socket, messages=PICTURE)
            assert got.status == (200 if is_open else 400)
            got = await gw.chat(unix=over_socket, **SEARCH, made_up=1)
            assert got.status == 200
            assert asked(up)[-1].get("tools") == (SEARCH["tools"] if is_open else None)
            assert stripped(got)["/made_up"] == "unknown-field"  # another rule, that is not open


async def test_s48_a_socket_can_be_open(tmp_path: Path) -> None:
    rules = '\n[policy]\nsocket = "open"\n'
    async with provider(ok()) as up, gateway(one(up.url, api_key=KEY) + rules, folder=tmp_path) as gw:
        got = await gw.chat(unix=True, messages=PICTURE, made_up=1)
        assert (got.status, stripped(got)) == (200, {})
        assert asked(up)[0]["made_up"] == 1


async def test_s48_an_agent_has_rules_of_its_own(tmp_path: Path) -> None:
    sockets = {name: tmp_path / f"{name}.sock" for name in ("ann", "ben", "cam", "dan")}
    agents = f"""
[policy]
http = "open"
[[agents]]
name = "ann"
socket = "{sockets["ann"]}"
allow = ["remote-url"]
[[agents]]
name = "ben"
socket = "{sockets["ben"]}"
[[agents]]
name = "cam"
socket = "{sockets["cam"]}"
policy = "open"
[[agents]]
name = "dan"
socket = "{sockets["dan"]}"
token = "token-of-dan"
policy = "sealed"
"""
    async with provider(ok()) as up, gateway(one(up.url, api_key=KEY) + agents, folder=tmp_path) as gw:
        body = plain("chat", "m", messages=PICTURE, made_up=1)
        ann = await on_socket(gw, sockets["ann"], CHAT, body)
        assert (ann.status, stripped(ann)) == (200, {"/made_up": "unknown-field"})
        assert (await on_socket(gw, sockets["ben"], CHAT, body)).status == 400
        cam = await on_socket(gw, sockets["cam"], CHAT, body)
        assert (cam.status, stripped(cam)) == (200, {})
        token = [JSON, (b"authorization", b"Bearer token-of-dan")]
        assert (await gw.ask("POST", CHAT, body, headers=token)).status == 400
        assert (await gw.ask("POST", CHAT, body)).status == 200


async def test_s48_a_rule_that_is_open_for_one_provider_is_shut_for_the_others(tmp_path: Path) -> None:
    """A failover goes on to each with its own rules: to who may be sent it as it is, to another
    without what is stripped, to a third not at all.
    """
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(provider(ok())) for _ in range(2)]
        config = (
            one(first.url, name="here", type="vllm", allow=["remote-url", "unknown-field", "web-search"])
            + one(second.url, name="there", api_key=KEY)
            + NO_RETRIES
            + '\n[aliases]\nboth = ["there/m", "here/m"]\nhere-first = ["here/m", "there/m"]\n'
        )
        gw = await stack.enter_async_context(gateway(config, folder=tmp_path))
        # Refused by one, so that only the other is asked, wherever it stands.
        for name in ("both", "here-first", "here/m"):
            got = await gw.chat(name, unix=True, messages=PICTURE)
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "here")
        assert second.seen == []
        got = await gw.chat("there/m", unix=True, messages=PICTURE)
        assert (got.status, got.error["code"]) == (400, "policy_denied")
        assert second.seen == []
        # Stripped for one alone.
        got = await gw.chat("both", unix=True, made_up=CANARY, **SEARCH)
        assert (got.headers["x-modelplex-provider"], stripped(got)) == (
            "there",
            {"/made_up": "unknown-field", "/tools/0": "web-search"},
        )
        assert not {"made_up", "tools"} & set(asked(second)[0])
        second.scripts[:] = [answer({"error": {"message": "x"}}, status=500)]
        first.seen.clear()
        got = await gw.chat("both", unix=True, made_up=CANARY, **SEARCH)
        assert (got.headers["x-modelplex-provider"], stripped(got)) == ("here", {})
        assert (asked(first)[0]["made_up"], asked(first)[0]["tools"]) == (CANARY, SEARCH["tools"])
        # And the other way round: what the first was sent does not go on to the second.
        first.scripts[:] = [answer({"error": {"message": "x"}}, status=500)]
        second.scripts[:] = [ok()]
        second.seen.clear()
        got = await gw.chat("here-first", unix=True, made_up=CANARY, **SEARCH)
        assert (got.status, got.headers["x-modelplex-provider"]) == (200, "there")
        assert asked(first)[-1]["made_up"] == CANARY
        assert CANARY.encode() not in second.seen[0].body
        assert stripped(got) == {"/made_up": "unknown-field", "/tools/0": "web-search"}
        record = gw.records[-1]
        assert {item.pointer for item in record.stripped} == {"/made_up", "/tools/0"}


async def test_s48_a_failover_does_not_end_at_who_may_not_be_sent_it(tmp_path: Path) -> None:
    """The provider that may be sent it is down: the answer is its error, and the other is still not
    asked.
    """
    async with AsyncExitStack() as stack:
        down = await stack.enter_async_context(provider(answer({"error": {"message": "x"}}, status=503)))
        shut = await stack.enter_async_context(provider(ok()))
        config = (
            one(down.url, name="here", type="vllm", allow=["remote-url"])
            + one(shut.url, name="there", api_key=KEY)
            + NO_RETRIES
        )
        gw = await stack.enter_async_context(gateway(config, folder=tmp_path))
        got = await gw.chat(unix=True, messages=PICTURE)
        assert got.status == 503
        assert shut.seen == []


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ('[policy.allow]\neverywhere = ["web-serch"]\n', "web-search"),
        ('[policy.allow]\nsocket = ["nonsense"]\n', ""),
        ('[policy.allow]\nhttp = ["duplicate-key"]\n', ""),
        ('[policy.allow]\nmorewhere = ["web-search"]\n', ""),
        ('[[agents]]\nname = "a"\nsocket = "a.sock"\nallow = ["remote-urls"]\n', "remote-url"),
        ('[[providers]]\nname = "x"\ntype = "vllm"\nbase_url = "http://127.0.0.1:1"\nallow = ["stores"]\n', "store"),
        ('[policy]\nsocket = "closed"\n', "sealed"),
    ],
)  # fmt: skip
def test_s48_a_name_of_no_rule_is_a_fault_of_the_config(tmp_path: Path, text: str, near: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as fault:
        load(str(file), environ={})
    assert near in str(fault.value)


async def test_s48_what_is_open_is_said_at_the_start(tmp_path: Path) -> None:
    socket = tmp_path / "ann.sock"
    rules = f'\n[policy.allow]\neverywhere = ["web-search"]\n[[agents]]\nname = "ann"\nsocket = "{socket}"\nallow = ["remote-url"]\n'
    async with (
        provider(ok()) as up,
        gateway(one(up.url, api_key=KEY, allow=["unknown-field"]) + rules, folder=tmp_path),
    ):
        log = tmp_path / "log.json"
        async with asyncio.timeout(WAIT_S):
            while "open_rules" not in (text := log.read_text() if log.exists() else ""):
                await asyncio.sleep(0.005)
        (line,) = [json.loads(line) for line in text.splitlines() if "open_rules" in line]
        assert line["open_rules"] == [
            "remote-url: agent ann",
            "unknown-field: provider up",
            "web-search: everybody",
        ]
        assert line["policy"] == {"sockets": "sealed", "http": "open"}


# --- rules that are open within bounds ------------------------------------------------------------

BOUND = '{ rule = "web-search", domains = ["docs.example.com"], max_uses = 2 }'
FOUND = {
    "messages": ({"type": "web_search_20250305", "name": "web_search"}, "allowed_domains"),
    "responses": ({"type": "web_search"}, "filters"),
}


@pytest.mark.parametrize("form", sorted(FOUND))
async def test_a_bound_is_put_into_the_words_of_the_provider(tmp_path: Path, form: str) -> None:
    """For an agent's socket, for all sockets, and for one provider: of several bounds
    each holds.
    """
    socket = tmp_path / "ann.sock"
    tool, where = FOUND[form]
    ok = answer(SPEAKERS[form](Said(text=("Hello",)), "m")[1])
    wide = '{ rule = "web-search", domains = ["example.com", "example.org"] }'
    rules = f"\n[policy.allow]\nsocket = [{wide}]\n[[agents]]\nname = 'ann'\nsocket = '{socket}'\nallow = [{BOUND}]\n"
    kind = "anthropic" if form == "messages" else "openai"
    async with provider(ok) as up:
        base = up.url.removesuffix("/v1") if form == "messages" else up.url
        config = one(base, type=kind, models='["m"]', api_key=KEY)
        async with gateway(config + rules, folder=tmp_path) as gw:
            body = plain(form, "m", tools=[tool])
            got = await on_socket(gw, socket, path_of(form, "m"), body)
            assert got.status == 200, got.body
            sent = asked(up)[-1]
            found = sent["tools"][0][where]
            assert found == (
                ["docs.example.com"] if form == "messages" else {"allowed_domains": ["docs.example.com"]}
            )
            assert (sent.get("max_tool_calls") or sent["tools"][0].get("max_uses")) == 2
            assert set(stripped(got).values()) == {"web-search"}
            # A caller of the other socket is held to what all sockets are.
            got = await gw.ask("POST", path_of(form, "m"), body, unix=True)
            assert "example.org" in str(asked(up)[-1]["tools"][0][where])
            # And a request may narrow, but not leave, what is allowed.
            outside = {"allowed_domains": ["evil.example"]}
            wider = {**tool, **(outside if form == "messages" else {"filters": outside})}
            up.seen.clear()
            got = await on_socket(gw, socket, path_of(form, "m"), plain(form, "m", tools=[wider]))
            message, code, _ = told(form, got)
            assert (got.status, code, asked(up)) == (400, "policy_denied", [])
            assert "names no allowed domain (rule web-search)" in message


async def test_a_bound_of_a_provider_holds_beside_a_rule_that_is_open_without_one(tmp_path: Path) -> None:
    ok = answer(SPEAKERS["messages"](Said(text=("Hello",)), "m")[1])
    async with provider(ok) as up:
        config = one(up.url.removesuffix("/v1"), type="anthropic", models='["m"]', api_key=KEY, allow=[])
        config = config.replace("allow = []", f"allow = [{BOUND}]")
        async with gateway(config + "\n[policy.allow]\nsocket = ['web-search']\n", folder=tmp_path) as gw:
            body = plain("messages", "m", tools=[FOUND["messages"][0]])
            got = await gw.ask("POST", path_of("messages", "m"), body, unix=True)
            assert got.status == 200, got.body
            assert asked(up)[-1]["tools"][0]["allowed_domains"] == ["docs.example.com"]


@pytest.mark.parametrize(
    ("bound", "sent"),
    [
        ('domains = ["docs.example.com"]', {"search_domain_filter": ["docs.example.com"]}),
        ("max_uses = 2", {"disable_search": True}),
        ('domains = ["docs.example.com"], max_uses = 2', {"disable_search": True}),
    ],
)
async def test_a_provider_that_searches_by_default_is_bounded_or_told_not_to(
    tmp_path: Path, bound: str, sent: dict[str, Any]
) -> None:
    async with openai() as up:
        config = one(up.url, type="perplexity", models='["m"]', api_key=KEY)
        rules = f"\n[policy.allow]\nsocket = [{{ rule = 'web-search', {bound} }}]\n"
        async with gateway(config + rules, folder=tmp_path) as gw:
            words: list[dict[str, Any]] = [{}, {"disable_search": False}]
            for said in words:
                up.seen.clear()
                got = await gw.chat(unix=True, **said)
                assert got.status == 200, got.body
                found = asked(up)[-1]
                assert {name: found[name] for name in sent} == sent
                assert found.get("disable_search", False) is sent.get("disable_search", False)


async def test_a_form_that_cannot_say_a_bound_is_refused(tmp_path: Path) -> None:
    ok = answer(SPEAKERS["gemini"](Said(text=("Hello",)), "m")[1])
    async with provider(ok) as up:
        config = one(up.url.removesuffix("/v1"), type="gemini", models='["m"]', api_key=KEY)
        async with gateway(config + f"\n[policy.allow]\nsocket = [{BOUND}]\n", folder=tmp_path) as gw:
            body = plain("gemini", "m", tools=[{"googleSearch": {}}])
            got = await gw.ask("POST", path_of("gemini", "m"), body, unix=True)
            message, code, _ = told("gemini", got)
            assert (got.status, code, asked(up)) == (400, "policy_denied", [])
            assert "this form has no member for a list of domains" in message
