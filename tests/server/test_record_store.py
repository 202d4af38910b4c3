"""The record of a running gateway: what is in it, and what is not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelplex import cli
from modelplex.config import ConfigError, load
from modelplex.dialects.registry import FORMS
from modelplex.records.ed25519 import is_signed
from modelplex.records.store import queries
from modelplex.records.store.database import Database, StoreError, StoreUnavailable, open_database
from modelplex.records.store_sink import RunInfo
from modelplex.server import record_store
from modelplex.server.process import GatewayProcess
from modelplex.server.record_store import sign_with
from tests.gateways import WAIT_S, Running, gateway, one
from tests.records.store import full_disk
from tests.records.store.stored import contents
from tests.upstreams import DONE, USAGE, answer, chat_answer, chunk, provider, stream

DEMO = '[[providers]]\ntype = "demo"\nname = "demo"\n'


def recorded(folder: Path, **settings: object) -> str:
    rows = {"store": str(folder / "records.sqlite"), **settings}
    return "\n[record]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())


def opened(folder: Path) -> Database:
    return open_database(folder / "records.sqlite", read_only=True)


async def status(gw: Running) -> dict[str, Any]:
    found: dict[str, Any] = (await gw.ask("GET", "/_internal/status")).json["records"]
    return found


async def test_every_call_is_recorded_with_its_bodies(tmp_path: Path) -> None:
    config = DEMO + recorded(tmp_path, content="full")
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi " * 1000}], "stream": True}
    async with gateway(config, folder=tmp_path) as gw:
        served = await gw.ask("POST", "/v1/chat/completions", body)
        refused = await gw.chat("no-such-model")
        assert (await status(gw))["place"].endswith("records.sqlite")
    db = opened(tmp_path)
    ids = [each.headers["x-request-id"] for each in (served, refused)]
    assert queries.request_body(db, ids[0]) == json.dumps(body).encode()
    assert queries.response_body(db, ids[0]) == served.body
    calls = {call.id: call for call in queries.recent_calls(db)}
    assert (calls[ids[0]].outcome, calls[ids[0]].stream, calls[ids[0]].bytes_out) == (
        "ok",
        True,
        len(served.body),
    )
    assert (calls[ids[1]].status, calls[ids[1]].outcome) == (404, "error")


async def test_by_default_no_body_is_recorded(tmp_path: Path) -> None:
    async with gateway(DEMO + recorded(tmp_path), folder=tmp_path) as gw:
        first = await gw.chat("demo")
        await gw.ask(
            "POST",
            "/v1/chat/completions",
            {
                "model": "demo",
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": "And?"},
                ],
            },
        )
    db = opened(tmp_path)
    assert [call.relation for call in reversed(queries.recent_calls(db))] == ["root", "turn"]
    assert queries.request_body(db, first.headers["x-request-id"]) is None
    assert db.query("SELECT count(*) FROM parts") == [(0,)]
    assert "Hello" not in contents(db)


async def test_bodies_that_the_record_needs_are_not_in_the_log(tmp_path: Path) -> None:
    async with gateway(DEMO + recorded(tmp_path, content="full"), folder=tmp_path) as gw:
        await gw.chat("demo")
    assert "request_body" not in (tmp_path / "log.json").read_text()


async def test_no_secret_of_the_config_is_in_any_table_or_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where a client sends one, or a provider repeats it."""
    secrets = [f"canary-{number}-0123456789" for number in range(4)]
    key, header, token, internal = secrets

    text = " ".join(secrets)
    wrong = answer({"error": {"message": f"wrong: {text}", "type": "invalid_request_error"}}, status=400)
    async with provider(*[wrong] * 3) as up:
        config = (
            f'[server]\ninternal_token = "{internal}"\n'
            + one(up.url, api_key=key)
            + f'headers = {{ x-extra = "{header}" }}\n'
            + f'[[agents]]\nname = "coder"\ntoken = "{token}"\ntags = {{ team = "x" }}\n'
            + recorded(tmp_path, content="full")
        )
        async with gateway(config, folder=tmp_path) as gw:
            messages = [{"role": "user", "content": text * 40}, {"role": "assistant", "content": token}]
            for path in ("/v1/chat/completions", "/v1/messages"):
                body = {"model": "m", "max_tokens": 9, "user": text, "messages": messages}
                headers = [
                    (b"authorization", f"Bearer {token}".encode()),
                    (b"content-type", b"application/json"),
                ]
                await gw.ask("POST", path, body, headers=headers)
            await gw.ask("POST", "/v1/chat/completions", {"model": text, "messages": messages})
    db = opened(tmp_path)
    everything = contents(db)
    assert len(queries.recent_calls(db)) == 3
    assert [each for each in secrets if each in everything] == []
    assert "********" in everything
    place = str(tmp_path / "records.sqlite")
    for run in queries.recent_runs(db):
        for form in ("jsonl", "otlp", "inspect"):
            assert cli.main(["export", run.id, "--format", form, "--store", place]) == 0
    out = capsys.readouterr().out
    assert out
    assert [each for each in secrets if each in out] == []
    raw = b"".join(file.read_bytes() for file in tmp_path.glob("records.sqlite*"))
    assert [each for each in secrets if each.encode() in raw] == []


async def test_tags_of_an_agent_are_those_of_its_calls(tmp_path: Path) -> None:
    agents = '[[agents]]\nname = "coder"\ntoken = "token-of-coder"\ntags = { team = "x" }\n'
    async with gateway(DEMO + agents + recorded(tmp_path), folder=tmp_path) as gw:
        headers = [(b"authorization", b"Bearer token-of-coder"), (b"content-type", b"application/json")]
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
        await gw.ask("POST", "/v1/chat/completions", body, headers=headers)
    (row,) = queries.usage(opened(tmp_path), by=["agent", "tag"])
    assert row.group == {"agent": "coder", "tag": "team=x"}


async def test_a_store_that_cannot_be_used_prevents_the_start(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_text("no database, " * 100)
    with pytest.raises(StoreError, match="not a database"):
        async with gateway(DEMO + recorded(tmp_path), folder=tmp_path):
            pass


async def test_a_server_that_cannot_be_reached_does_not(tmp_path: Path) -> None:
    place = "postgresql://me:hunter2hunter2@127.0.0.1:1/records"
    async with gateway(DEMO + recorded(tmp_path, store=place), folder=tmp_path) as gw:
        served = await gw.chat("demo")
        assert served.status == 200
        config = (await gw.ask("GET", "/_internal/config")).body.decode()
        assert "hunter2hunter2" not in config
        metrics = (await gw.ask("GET", "/_internal/metrics")).body.decode()
        assert "modelplex_record_store_failing" in metrics
    assert "hunter2hunter2" not in (tmp_path / "log.json").read_text()


async def test_on_a_full_disk_calls_go_on_and_are_counted(tmp_path: Path) -> None:
    """The store's pages are limited: SQLite reports that as it does a full disk."""
    async with gateway(DEMO + recorded(tmp_path, content="full"), folder=tmp_path) as gw:
        await gw.chat("demo")
        sink = gw.process._store.sink
        assert sink is not None
        database = sink._opened()._database
        database.query("PRAGMA max_page_count = 1")
        noise = os.urandom(60_000).hex()
        for _ in range(3):
            served = await gw.ask(
                "POST",
                "/v1/chat/completions",
                {"model": "demo", "messages": [{"role": "user", "content": noise}]},
            )
            assert served.status == 200
        async with asyncio.timeout(WAIT_S):
            while not (await status(gw))["failure"]:
                await asyncio.sleep(0.01)
        assert "full" in (await status(gw))["failure"]
        database.query("PRAGMA max_page_count = 1000000")
        sink._closing.set()  # do not wait for the next attempt
    assert "the record store cannot be written" in (tmp_path / "log.json").read_text()


@pytest.fixture(scope="module")
def namespaces() -> list[str]:
    """The words that run a program in a mount namespace of its own."""
    words = ["unshare", "--map-root-user", "--mount"]
    try:
        refused = subprocess.run([*words, "true"], capture_output=True, timeout=WAIT_S, check=False).stderr
    except FileNotFoundError:
        refused = b"there is no unshare"
    if refused:
        pytest.skip(f"no mount namespace: {refused.decode().strip()}")
    return words


def on_a_small_disk(namespaces: list[str], folder: Path, *, case: str) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.records.store.full_disk", str(folder), case]
    subprocess.run(
        [*namespaces, *program],
        check=True,
        timeout=3 * WAIT_S,
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    seen: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    return seen


def test_a_full_file_system_delays_records_and_no_call(tmp_path: Path, namespaces: list[str]) -> None:
    seen = on_a_small_disk(namespaces, tmp_path, case="later")
    assert seen["statuses"] == [200]
    assert seen["full"]["failure"].endswith("cannot be written: database or disk is full.")
    assert "modelplex_record_store_failing 1.0" in seen["metrics"]
    assert (seen["waiting"]["waiting"], seen["waiting"]["written"]) == (16, 8)
    assert seen["readable"] == 8  # what was written before is shown
    assert (seen["after"]["failure"], seen["after"]["written"], seen["after"]["dropped"]) == ("", 32, 0)
    assert "modelplex_record_store_failing 0.0" in seen["metrics_after"]
    assert seen["integrity"] == [["ok"]]
    assert [seen[name] for name in ("sent", "stored", "exact")] == [32, 32, 32]
    events = [event for event in seen["log"] if event.startswith("the record store")]
    assert events == ["the record store cannot be written; calls are counted", "the record store is written"]


def test_a_file_system_that_is_full_at_the_start_prevents_no_start(
    tmp_path: Path, namespaces: list[str]
) -> None:
    """With a store that the config names, and more calls than can wait."""
    seen = on_a_small_disk(namespaces, tmp_path, case="at-start")
    assert seen["statuses"] == [200]
    assert "disk is full" in seen["full"]["failure"]
    assert (seen["waiting"]["waiting"], seen["waiting"]["dropped"]) == (full_disk.QUEUE_LIMIT, 11)
    after = seen["after"]
    assert (after["failure"], after["written"] + after["dropped"]) == ("", 24)
    assert after["written"] >= full_disk.QUEUE_LIMIT
    assert f'modelplex_records_lost_total{{reason="dropped"}} {after["dropped"]}.0' in seen["metrics_after"]
    assert seen["integrity"] == [["ok"]]
    assert seen["stored"] == seen["exact"] == after["written"]


def config_with(folder: Path, text: str) -> Any:
    file = folder / "config.toml"
    file.write_text(DEMO + text)
    return load(str(file), environ={})


def test_content_and_run_are_those_of_the_config_and_of_modelplex_run(tmp_path: Path) -> None:
    plain, full = config_with(tmp_path, ""), config_with(tmp_path, '[record]\ncontent = "metadata"\n')
    run = {record_store.RUN_VARIABLE: '{"id": "run-1", "started": 1.0}'}
    off = {record_store.RUN_VARIABLE: "off"}
    assert [record_store.content_of(plain, each) for each in ({}, run, off)] == ["metadata", "full", "off"]
    assert [record_store.content_of(full, each) for each in ({}, run, off)] == ["metadata", "metadata", "off"]
    assert record_store.run_of(run) == RunInfo(id="run-1", started=1.0)
    assert record_store.run_of(off) is None
    assert record_store.run_of({}) is None
    shared = {record_store.RUN_VARIABLE: "shared"}
    assert (record_store.content_of(plain, shared), record_store.run_of(shared)) == ("full", None)


@pytest.mark.parametrize("host", ["", "rack-7.example"])
async def test_records_have_the_host_of_the_gateway(tmp_path: Path, host: str) -> None:
    settings = {"host": host} if host else {}
    async with gateway(DEMO + recorded(tmp_path, **settings), folder=tmp_path) as gw:
        assert (await gw.chat("demo")).status == 200
    (row,) = queries.usage(opened(tmp_path), by=["host"])
    assert row.group == {"host": host or socket.gethostname()}


@pytest.mark.parametrize("host", ["", "two words", "x" * 101, "a\nb"])
def test_a_host_is_one_word(tmp_path: Path, host: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(DEMO + recorded(tmp_path, host=host))
    with pytest.raises(ConfigError, match=r"record\.host"):
        load(str(file), environ={})


def test_the_place_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = config_with(tmp_path, "")
    assert record_store.store_place(plain, {"XDG_STATE_HOME": "/state"}) == "/state/modelplex/records.sqlite"
    other = config_with(tmp_path, '[record]\nstore = "x.sqlite"\n')
    assert record_store.store_place(other, {}) == "x.sqlite"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(StoreUnavailable, match="no home"):
        record_store.store_place(plain, {})


def test_the_password_of_the_store_is_a_secret(tmp_path: Path) -> None:
    config = config_with(tmp_path, '[record]\nstore = "postgresql://me:p%40ssword1@h/db"\n')
    assert list(record_store.store_secrets(config)) == ["p%40ssword1", "p@ssword1"]
    assert list(record_store.store_secrets(config_with(tmp_path, '[record]\nstore = "x"\n'))) == []
    assert (
        list(record_store.store_secrets(config_with(tmp_path, '[record]\nstore = "postgresql://h/db"\n')))
        == []
    )


def test_each_dialect_says_where_its_conversation_is() -> None:
    assert list(record_store.conversation_members("openai_chat")) == ["messages"]
    assert list(record_store.conversation_members("anthropic_messages")) == ["messages", "system"]
    assert list(record_store.conversation_members("openai_responses")) == ["input", "instructions"]
    assert list(record_store.conversation_members("anthropic_count")) == []
    assert list(record_store.conversation_members("none")) == []
    assert all(record_store.conversation_members(name) is not None for name in FORMS)


async def test_a_process_that_records_nothing_has_no_store(tmp_path: Path) -> None:
    config = config_with(tmp_path, f'[record]\ncontent = "off"\n[log]\nfile = "{tmp_path / "log"}"\n')
    process = GatewayProcess(config, config_path=None, verbose=False)
    assert process._store.sink is None
    assert process._store.kept_body(config) is None
    assert process._store.status() is None
    assert process._store.lost() == {}
    await process._store.close()
    process._log.close()


def test_the_key_of_chains_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "record-key"
    first, signature = sign_with(path, b"message")
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_signed(first, b"message", signature)
    assert sign_with(path, b"message") == (first, signature)


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "record-key"
    path.write_bytes(b"short")
    with pytest.raises(StoreUnavailable, match="is no key of 32 bytes"):
        sign_with(path, b"message")


# --- token ids ------------------------------------------------------------------------------------

ENTRIES: list[dict[str, Any]] = [
    {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []} for text in ("He", "llo")
]
KEPT: dict[str, Any] = {
    "prompt_token_ids": [1, 2, 3],
    "choices": [{"index": 0, "token_ids": [7, 8], "logprobs": ENTRIES}],
}


def _whole() -> dict[str, Any]:
    body = chat_answer() | {"prompt_token_ids": [1, 2, 3]}
    (choice,) = chat_answer()["choices"]
    return body | {"choices": [choice | {"token_ids": [7, 8], "logprobs": {"content": ENTRIES}}]}


def _token(text: str, token: int, entry: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return chunk(choices=[choice | {"token_ids": [token], "logprobs": {"content": [entry]}}])


STREAM = (
    chunk({"role": "assistant", "content": ""}, prompt_token_ids=[1, 2, 3]),
    _token("Hello", 7, ENTRIES[0]),
    _token("", 8, ENTRIES[1]),  # a token of which no text comes yet
    chunk({}, finish="stop"),
    chunk(usage=USAGE),
    DONE,
)
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    "anthropic": ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}),
    "ollama": ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}]}),
    "gemini": ("/v1beta/models/m:{}", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("form", ROUTES)
async def test_token_ids_are_asked_for_and_kept_with_the_call(
    tmp_path: Path, form: str, *, streamed: bool
) -> None:
    path, body = ROUTES[form]
    path = path.format("streamGenerateContent" if streamed else "generateContent")
    reply = stream(*STREAM) if streamed else answer(_whole())
    async with provider(reply) as up:
        config = one(up.url, type="vllm") + recorded(tmp_path, content="full", tokens=True)
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.ask("POST", path, {"model": "m", "stream": streamed, **body})
            record = await gw.record()
    assert (got.status, b"Hello" in got.body) == (200, True)
    assert (up.seen[0].json["return_token_ids"], up.seen[0].json["logprobs"]) == (True, True)
    added = {(change.op, change.path) for change in record.changes}
    assert added >= {("add", "return_token_ids"), ("add", "logprobs")}
    db = opened(tmp_path)
    stored = queries.response_tokens(db, record.id)
    assert stored is not None
    assert json.loads(stored) == KEPT
    # The client gets them where the bytes pass; a translated response has none.
    assert (b"token_ids" in got.body) == (form == "chat")
    assert (b"-0.5" in got.body) == (form == "chat")


async def test_log_probabilities_that_a_translated_client_asked_for_come(tmp_path: Path) -> None:
    path, body = ROUTES["ollama"]
    async with provider(answer(_whole())) as up:
        config = one(up.url, type="vllm") + recorded(tmp_path, content="full", tokens=True)
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.ask("POST", path, {"model": "m", "stream": False, "logprobs": True, **body})
    assert [each["token"] for each in got.json["logprobs"]] == ["He", "llo"]


@pytest.mark.parametrize("settings", [{"content": "full"}, {"content": "metadata", "tokens": True}])
async def test_without_the_setting_or_bodies_nothing_is_asked(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    async with provider(answer(_whole())) as up:
        config = one(up.url, type="vllm") + recorded(tmp_path, **settings)
        async with gateway(config, folder=tmp_path) as gw:
            await gw.chat()
            record = await gw.record()
    assert not {"return_token_ids", "logprobs"} & set(up.seen[0].json)
    assert (record.changes, record.tokens) == ((), None)
    assert queries.response_tokens(opened(tmp_path), record.id) is None


async def test_a_provider_that_refuses_them_is_asked_without(tmp_path: Path) -> None:
    message = "Unsupported parameter: 'logprobs' is not supported with this model."
    error = {
        "message": message,
        "type": "invalid_request_error",
        "param": "logprobs",
        "code": "unsupported_parameter",
    }
    async with provider(answer({"error": error}, status=400), answer(_whole())) as up:
        config = one(up.url, type="vllm") + recorded(tmp_path, content="full", tokens=True)
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat()
            record = await gw.record()
    assert (got.status, len(up.seen)) == (200, 2)
    assert ("logprobs" in up.seen[1].json, up.seen[1].json["return_token_ids"]) == (False, True)
    assert [change.path for change in record.changes] == ["return_token_ids"]


async def test_what_a_client_asks_for_itself_is_not_taken_out(tmp_path: Path) -> None:
    """Also after the provider refused it of the gateway."""
    error = {"message": "Unsupported parameter: 'logprobs' is not supported with this model."}
    async with provider(answer({"error": error}, status=400), answer(_whole())) as up:
        config = one(up.url, type="vllm") + recorded(tmp_path, content="full", tokens=True)
        async with gateway(config, folder=tmp_path) as gw:
            await gw.chat()
            await gw.chat(logprobs=True)
    assert ["logprobs" in seen.json for seen in up.seen] == [True, False, True]


@pytest.mark.parametrize(("type", "tools", "sent"), [
    ("llamacpp", False, {"n_probs": 1}),
    ("llamacpp", True, {}),
    ("sglang", True, {"logprobs": True}),
])  # fmt: skip
async def test_a_stream_is_asked_as_its_provider_takes_it(
    tmp_path: Path, type: str, *, tools: bool, sent: dict[str, object]
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with provider(stream(*STREAM)) as up:
        config = one(up.url, type=type) + recorded(tmp_path, content="full", tokens=True)
        async with gateway(config, folder=tmp_path) as gw:
            await gw.chat(stream=True, tools=[tool] if tools else [])
            record = await gw.record()
    names = ("n_probs", "logprobs", "return_token_ids")
    assert {name: up.seen[0].json[name] for name in names if name in up.seen[0].json} == sent
    assert [change.op for change in record.changes if change.path in {*names, "tokens"}] == [
        "add" if sent else "drop"
    ]


async def test_a_reload_turns_token_ids_on(tmp_path: Path) -> None:
    async with provider(answer(_whole())) as up:
        config = one(up.url, type="vllm") + recorded(tmp_path, content="full")
        async with gateway(config, folder=tmp_path) as gw:
            await gw.chat()
            file = tmp_path / "config.toml"
            file.write_text(file.read_text().replace('"full"', '"full"\ntokens = true'))
            await gw.process.reload()
            await gw.chat()
            record = await gw.record(2)
    assert ["return_token_ids" in seen.json for seen in up.seen] == [False, True]
    assert json.loads(record.tokens or b"") == KEPT
    assert "need a restart" not in (tmp_path / "log.json").read_text()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_real_llama_server_returns_them(llama: str, tmp_path: Path, *, streamed: bool) -> None:
    path, body = ROUTES["anthropic"]
    config = one(llama, type="llamacpp", models='["gemma-3-270m"]')
    config += recorded(tmp_path, content="full", tokens=True)
    async with gateway(config, folder=tmp_path) as gw:
        got = await gw.ask("POST", path, {**body, "model": "gemma-3-270m", "stream": streamed})
        record = await gw.record()
    assert got.status == 200
    (choice,) = json.loads(record.tokens or b"")["choices"]
    assert all(token > 0 for token in choice["token_ids"])
    assert len(choice["token_ids"]) == len(choice["logprobs"]) > 1
    assert all(entry["logprob"] <= 0 for entry in choice["logprobs"])
