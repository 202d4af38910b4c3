"""The data path end to end: real sockets on both sides, and providers that do what they
should not.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.records.record import Record
from tests.gateways import WAIT_S, Answer, gateway, one
from tests.upstreams import (
    DONE,
    STREAM_HEAD,
    USAGE,
    answer,
    chat_answer,
    chat_stream,
    chunk,
    provider,
    raw,
    stall,
    stream,
)

ERROR = {"error": {"message": "told so", "type": "some_error", "param": None, "code": "some_code"}}


def events(body: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


def text(body: bytes) -> str:
    return "".join(
        c["delta"].get("content") or "" for e in events(body) if "choices" in e for c in e["choices"]
    )


# --- what passes ----------------------------------------------------------------------------------


async def test_an_answer_passes_byte_for_byte_and_says_where_it_is_from(tmp_path: Path) -> None:
    odd = json.dumps(chat_answer("Grüße", unknown_member={"a": 1e400})).encode().replace(b", ", b" ,\t")
    async with provider(answer(odd, x_request_id="up-1", x_ratelimit_limit_requests="7")) as up:
        async with gateway(one(up.url, api_key="sk-up-secret"), folder=tmp_path) as gw:
            got = await gw.chat()
            assert got.body == odd
            assert got.headers["x-modelplex-provider"] == "up"
            assert got.headers["x-modelplex-model"] == "m"
            assert got.headers["x-modelplex-attempts"] == "1"
            assert float(got.headers["x-modelplex-overhead-ms"]) > 0
            assert got.headers["x-modelplex-upstream-request-id"] == "up-1"
            assert got.headers["x-ratelimit-limit-requests"] == "7"
            assert got.headers["x-request-id"].startswith("mpx-")
            record = await gw.record()
            assert (record.outcome, record.finish_reason, record.passthrough) == ("ok", "stop", True)
            assert record.usage is not None
            assert (record.usage.input, record.usage.output) == (3, 2)
        assert up.seen[0].target == "/v1/chat/completions"
        assert up.seen[0].headers["authorization"] == "Bearer sk-up-secret"


async def test_a_request_passes_with_every_value_as_it_was_but_the_model(tmp_path: Path) -> None:
    body = (
        b'{"seed":12345678901234567890,"temperature":1.0e-1,"model":"nick","messages":[{"role":"user",'
        b'"content":"\\u00fc \\/ x"}],"zz_unknown":{"b":1,"a":[1.50,null]}}'
    )
    config = "[aliases]\nnick = 'up/m'\n"
    async with provider(answer(chat_answer())) as up, gateway(one(up.url) + config, folder=tmp_path) as gw:
        assert (await gw.ask("POST", "/v1/chat/completions", body)).status == 200
        assert up.seen[0].body == body.replace(b'"nick"', b'"m"')


async def test_no_credential_of_the_caller_goes_on_and_one_of_ours_does(tmp_path: Path) -> None:
    own = [
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer guest-1"),
        (b"x-api-key", b"guest-2"),
        (b"x-goog-api-key", b"guest-3"),
        (b"cookie", b"guest=4"),
        (b"x-whatever", b"guest-5"),
    ]
    body: dict[str, Any] = {"model": "m", "messages": []}
    async with (
        provider(answer(chat_answer())) as up,
        gateway(one(up.url, api_key="ours"), folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", "/v1/chat/completions?key=guest-6", body, headers=own)
        assert got.status == 200
        assert "guest" not in repr(up.seen[0])
        assert up.seen[0].headers["authorization"] == "Bearer ours"


async def test_a_stream_passes_untouched_over_the_socket(tmp_path: Path) -> None:
    pieces = chat_stream("Hel", "lo")
    async with provider(stream(*pieces)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=True, unix=True, stream_options={"include_usage": True})
        assert got.body == b"".join(pieces)
        assert got.headers["content-type"].startswith("text/event-stream")
        record = await gw.record()
        assert record.listener.startswith("unix:")
        assert record.times.first_output is not None


async def test_usage_is_asked_for_on_our_behalf_and_kept_from_a_client_that_did_not_ask(
    tmp_path: Path,
) -> None:
    pieces = chat_stream("Hi")
    async with provider(stream(*pieces)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=True)
        assert up.seen[0].json["stream_options"] == {"include_usage": True}
        assert got.body == b"".join(p for p in pieces if b"usage" not in p)
        record = await gw.record()
        assert record.usage is not None
        assert record.usage.output == 2


async def test_a_service_that_reads_max_tokens_is_sent_it_and_the_change_is_told(tmp_path: Path) -> None:
    config = one(up_url := "http://127.0.0.1:9", type="openai", quirks={}).replace("quirks = {}\n", "")
    del up_url
    async with provider(answer(chat_answer())) as up:
        config = config.replace("http://127.0.0.1:9", up.url) + 'quirks = { output_limit = "max_tokens" }\n'
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(max_completion_tokens=9)
            assert got.headers["x-modelplex-changes"] == "rename=max_completion_tokens"
            assert up.seen[0].json["max_tokens"] == 9
            assert "max_completion_tokens" not in up.seen[0].json


@pytest.mark.parametrize("endpoint", ["moderations", "rerank", "images/generations", "audio/speech"])
async def test_unread_endpoints_go_by_model_and_come_back_as_they_are(endpoint: str, tmp_path: Path) -> None:
    blob = bytes(range(256)) * 50
    config = "[aliases]\nnick = 'up/m'\n"
    # Every OpenAI-compatible service serves a different set; this one is told to serve all.
    async with provider(answer(blob, label="audio/mpeg")) as up:
        kind = "vllm" if endpoint == "rerank" else "openai"
        async with gateway(one(up.url, type=kind) + config, folder=tmp_path) as gw:
            got = await gw.ask("POST", f"/models/v1/{endpoint}", {"model": "nick", "input": "x"})
            assert (got.status, got.body, got.headers["content-type"]) == (200, blob, "audio/mpeg")
            assert up.seen[0].target == f"/v1/{endpoint}"
            assert up.seen[0].json == {"model": "m", "input": "x"}


async def test_a_stream_of_vectors_is_no_stream(tmp_path: Path) -> None:
    vectors = {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    }
    async with provider(answer(vectors)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.ask("POST", "/v1/embeddings", {"model": "m", "input": "x", "stream": True})
        assert (got.status, got.json) == (200, vectors)


async def test_a_form_passes_with_only_its_model_changed(tmp_path: Path) -> None:
    audio = bytes(range(256)) * 20
    form = (
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\n' + audio + b"\r\n"
        b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nnick\r\n'
        b'--XX\r\nContent-Disposition: form-data; name="language"\r\n\r\nde\r\n--XX--\r\n'
    )
    config = "[aliases]\nnick = 'up/whisper'\n"
    async with provider(answer({"text": "Hallo"})) as up:
        async with gateway(one(up.url, models='["whisper"]') + config, folder=tmp_path) as gw:
            label = b"multipart/form-data; boundary=XX"
            got = await gw.ask("POST", "/v1/audio/transcriptions", form, headers=[(b"content-type", label)])
            assert got.json == {"text": "Hallo"}
            assert up.seen[0].body == form.replace(b"nick", b"whisper")
            assert up.seen[0].headers["content-type"] == label.decode()
            shouted = b"Multipart/Form-Data; boundary=XX"
            got = await gw.ask("POST", "/v1/audio/transcriptions", form, headers=[(b"content-type", shouted)])
            assert got.json == {"text": "Hallo"}
            assert up.seen[1].headers["content-type"] == label.decode()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        (b"{", None, "JSON"),
        (b"[]", None, "JSON"),
        (b'{"messages":[]}', "model", "model"),
        (b'{"model":5,"messages":[]}', "model", "string"),
        (b'{"model":"m","stream":"yes"}', "stream", "true or false"),
        (b'{"model":"","messages":[]}', "model", "characters"),
        (b'{"model":"\xff"}', "model", "UTF-8"),
    ],
)
async def test_a_bad_body_is_a_400_that_says_where(
    body: bytes, param: str | None, word: str, tmp_path: Path
) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw:
        got = await gw.ask("POST", "/v1/chat/completions", body)
        assert (got.status, got.error["type"], got.error["param"]) == (400, "invalid_request_error", param)
        assert word in got.error["message"]
        assert set(got.error) == {"message", "type", "param", "code"}
        record = await gw.record()
        assert (record.outcome, record.blame, record.status) == ("error", "client", 400)


async def test_an_unknown_model_is_a_404_with_near_names(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1", models='["gpt-4"]'), folder=tmp_path) as gw:
        got = await gw.chat("gtp-4")
        assert (got.status, got.error["code"]) == (404, "model_not_found")
        assert "gpt-4" in got.error["message"]


@pytest.mark.parametrize(
    "path", ["/v1/files", "/models/v1/threads", "/x", "/v1/chat/completions/x", "/v2/chat/completions"]
)
async def test_any_other_path_is_a_404_in_the_openai_shape(path: str, tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw:
        for unix in (False, True):
            got = await gw.ask("POST", path, {"model": "m"}, unix=unix)
            assert (got.status, got.error["code"]) == (404, "not_found")


ROOT: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/completions": {"prompt": "Hi"},
    "/embeddings": {"input": "Hi"},
    "/responses": {"input": "Hi"},
    "/responses/input_tokens": {"input": "Hi"},
    "/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
}


@pytest.mark.parametrize("path", ROOT)
async def test_a_client_that_was_given_the_bare_address_is_served(path: str, tmp_path: Path) -> None:
    async with gateway('[[providers]]\ntype = "demo"\n', folder=tmp_path) as gw:
        usual, root = [
            await gw.ask("POST", base + path, {"model": "demo", **ROOT[path]}) for base in ("/v1", "")
        ]
        assert (root.status, list(root.json)) == (usual.status, list(usual.json))
        wrong = await gw.ask("POST", path, {"model": "nobody", **ROOT[path]})
        assert wrong.json["error"]["type"] in {"invalid_request_error", "not_found_error"}
        assert (wrong.status, "details" in wrong.json["error"]) == (404, path.startswith("/messages"))
        assert (await gw.ask("GET", path)).status == 405


async def test_the_models_are_listed_at_the_root_too(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1", models='["m", "a/b"]'), folder=tmp_path) as gw:
        usual = (await gw.ask("GET", "/v1/models")).json
        for path in ("/models", "/models/"):
            assert (await gw.ask("GET", path)).json == usual
        anthropic = await gw.ask("GET", "/models", headers=[(b"anthropic-version", b"2023-06-01")])
        assert {"first_id", "has_more"} <= set(anthropic.json)
        for path, name in (("/models/m", "m"), ("/models/up/m", "up/m"), ("/models/a%2Fb", "a/b")):
            assert (await gw.ask("GET", path)).json["id"] == name
        assert (await gw.ask("GET", "/models/nobody")).error["code"] == "model_not_found"
        for path in ("/", "/v1", "/models/v1", "/models/v1/", "/api", "/v1beta"):
            assert (await gw.ask("GET", path)).json["status"] == "ok"
        for path in ("/models/v1%2Fmodels", "/models/api%2Ftags", "/models/..%2Fhealth"):
            assert (await gw.ask("GET", path)).status == 400
        assert (await gw.ask("POST", "/moderations", {"model": "m", "input": "x"})).status == 404
        assert (await gw.ask("GET", "/messages/x")).status == 404


async def test_a_wrong_method_is_a_405(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw:
        assert (await gw.ask("GET", "/v1/chat/completions")).status == 405
        assert (await gw.ask("POST", "/health")).status == 405


async def test_a_body_that_stops_coming_is_a_408_and_leaves_a_record_of_it(tmp_path: Path) -> None:
    config = "[server]\nbody_timeout = 0.1\n" + one("http://127.0.0.1:9/v1")
    async with gateway(config, folder=tmp_path) as gw:
        reader, writer = await asyncio.open_unix_connection(gw.socket)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        got = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        assert got.startswith(b"HTTP/1.1 408 ")
        record = await gw.record()
        assert (record.status, record.outcome, record.code, record.blame) == (
            408,
            "error",
            "request_timeout",
            "client",
        )


async def test_a_body_above_the_limit_is_a_413(tmp_path: Path) -> None:
    config = "[server]\nmax_request_size = 1000\n" + one("http://127.0.0.1:9/v1")
    async with gateway(config, folder=tmp_path) as gw:
        got = await gw.chat(padding="x" * 2000)
        assert (got.status, got.error["code"]) == (413, "request_too_large")
        assert "1000" in got.error["message"]


# --- who may look ---------------------------------------------------------------------------------


async def test_the_inside_is_there_on_http_and_not_on_the_socket(tmp_path: Path) -> None:
    config = one("http://127.0.0.1:9/v1", api_key="sk-very-secret-key")
    async with gateway(config, folder=tmp_path) as gw:
        for view in ("status", "config", "metrics"):
            got = await gw.ask("GET", f"/_internal/{view}")
            assert got.status == 200
            assert b"sk-very-secret-key" not in got.body
            assert (await gw.ask("GET", f"/_internal/{view}", unix=True)).status == 404


async def test_with_a_token_the_inside_wants_it(tmp_path: Path) -> None:
    config = '[server]\ninternal_token = "let-me-in-please"\n' + one("http://127.0.0.1:9/v1")
    async with gateway(config, folder=tmp_path) as gw:
        assert (await gw.ask("GET", "/_internal/status")).status == 401
        right = [(b"authorization", b"Bearer let-me-in-please")]
        assert (await gw.ask("GET", "/_internal/status", headers=right)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"evil.example", 421),
        (b"evil.example:11435", 421),
        (b"localhost:1", 200),
        (b"127.0.0.1", 200),
        (b"[::1]:80", 200),
        (b"friend.example", 200),
    ],
)
async def test_a_host_that_a_web_page_could_own_is_not_served_on_tcp(
    host: bytes, status: int, tmp_path: Path
) -> None:
    config = '[server]\nallowed_hosts = ["friend.example"]\n' + one("http://127.0.0.1:9/v1")
    async with gateway(config, folder=tmp_path) as gw:
        where, port = gw.base.removeprefix("http://").rsplit(":", 1)
        reader, writer = await asyncio.open_connection(where, int(port))
        writer.write(b"GET /health HTTP/1.1\r\nhost: " + host + b"\r\nconnection: close\r\n\r\n")
        got = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        assert int(got.split(b" ")[1]) == status


async def test_a_web_page_of_elsewhere_is_refused(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw:
        bad = await gw.ask("GET", "/v1/models", headers=[(b"origin", b"https://evil.example")])
        assert (bad.status, bad.error["code"]) == (403, "origin_not_allowed")
        assert (
            await gw.ask("GET", "/v1/models", headers=[(b"origin", b"http://localhost:3000")])
        ).status == 200


async def test_health_is_everywhere_and_tells_of_the_providers_in_detail(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw:
        for unix in (False, True):
            assert (await gw.ask("GET", "/health", unix=unix)).json == {
                "status": "ok",
                "service": "modelplex",
            }
            assert (await gw.ask("HEAD", "/health", unix=unix)).status == 200
        detail = (await gw.ask("GET", "/health?detail=1")).json
        assert detail["providers"] == [{"name": "up", "type": "openai", "breakers": []}]


async def test_models_are_listed_with_aliases_and_found_by_every_name_that_a_call_may_use(
    tmp_path: Path,
) -> None:
    listed = {"object": "list", "data": [{"id": "org/x", "object": "model", "created": 5}]}
    config = one("http://127.0.0.1:9/v1", name="a", models='["gpt-4"]') + "[aliases]\nbest = 'gpt-4'\n"
    async with provider(answer(listed)) as up:
        config = one(up.url, name="b", models="[]").replace("models = []\n", "") + config
        async with gateway(config, folder=tmp_path) as gw:
            data = (await gw.ask("GET", "/models/v1/models")).json["data"]
            assert {(m["id"], m["owned_by"]) for m in data} == {
                ("best", "modelplex"),
                ("gpt-4", "a"),
                ("org/x", "b"),
            }
            for name in ("gpt-4", "org/x", "b/org/x", "best", "modelplex-gpt-4"):
                assert (await gw.ask("GET", f"/v1/models/{name}")).json["id"] == name
            assert (await gw.ask("GET", "/v1/models/nope")).error["code"] == "model_not_found"


@pytest.mark.parametrize("asked", ["named/gpt", "best", "modelplex-named/gpt"])
@pytest.mark.parametrize("others", ['["named/gpt"]', '["*"]', "[]"])
async def test_provider_and_model_go_to_that_provider_whoever_serves_such_a_name(
    asked: str, others: str, tmp_path: Path
) -> None:
    listed = {"object": "list", "data": [{"id": "named/gpt", "object": "model", "created": 5}]}
    async with provider(answer(chat_answer())) as up, provider(answer(listed)) as other:
        config = one(other.url, name="other", priority=1, models=others).replace("models = []\n", "")
        config += one(up.url, name="named", priority=2, models='["gpt"]') + "[aliases]\nbest = 'named/gpt'\n"
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(model=asked)
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "named")
            assert up.seen[-1].json["model"] == "gpt"
            assert {seen.target for seen in other.seen} <= {"/v1/models"}
            known = {m["id"]: m["owned_by"] for m in (await gw.ask("GET", "/models/v1/models")).json["data"]}
            assert known.get("other/named/gpt", "other") == "other"
            assert "named/gpt" not in known
            assert (known["gpt"], known["best"]) == ("named", "modelplex")


# --- after the first output -----------------------------------------------------------------------


def assert_broken(got: Answer, record: Record) -> None:
    """The client sees an error in its protocol and no end that looks whole."""
    told = events(got.body)
    assert [e for e in told if "error" in e], got.body
    assert "error" in told[-1]
    assert DONE not in got.body
    assert not any(c["finish_reason"] for e in told if "choices" in e for c in e["choices"])
    assert (record.outcome, record.blame, record.finish_reason) == ("broken", "provider", None)


@pytest.mark.parametrize(
    "fault",
    [
        stream(chunk({"content": "Hel"}), end=False),
        stream(chunk({"content": "Hel"})),
        stream(chunk({"content": "Hel"}), DONE),
        stream(chunk({"content": "Hel"}), b"data: " + json.dumps(ERROR).encode() + b"\n\n"),
        stream(chunk({"content": "Hel"}), b"data: {half\n\n"),
    ],
    ids=["cut", "ended too early", "done without a finish", "an error event", "rubbish"],
)
async def test_after_output_a_failure_is_an_error_in_the_stream_and_never_an_end(
    fault: Any, tmp_path: Path
) -> None:
    async with provider(fault) as first, provider(answer(chat_answer())) as second:
        config = one(first.url, name="first", priority=1) + one(second.url, name="second", priority=2)
        async with gateway(config + "\n[failover]\nretries = 1\n", folder=tmp_path) as gw:
            got = await gw.chat(stream=True)
            assert text(got.body) == "Hel"
            assert second.seen == []
            assert_broken(got, await gw.record())


async def test_tool_arguments_of_a_stream_that_was_cut_are_never_a_finished_call(tmp_path: Path) -> None:
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    async with (
        provider(stream(chunk({"tool_calls": [call]}))) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        assert_broken(await gw.chat(stream=True), await gw.record())


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_models_slip_in_arguments_is_no_failure_of_its_provider(
    *, streamed: bool, tmp_path: Path
) -> None:
    """Its agent tells the model, which mends the call; the answer is paid for."""
    slip = '{"location": "Paris", "unit": celsius}'
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": slip}}
    body = chat_answer("", tool_calls=[{k: v for k, v in call.items() if k != "index"}])
    body["choices"][0]["finish_reason"] = "tool_calls"
    pieces = [chunk({"tool_calls": [call]}), chunk({}, finish="tool_calls"), DONE]
    script = stream(*pieces) if streamed else answer(body)
    asked = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}],
        "stream": streamed,
    }
    async with provider(script) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=streamed)
        assert got.body == b"".join(pieces) if streamed else got.json == body
        told = await gw.ask("POST", "/v1/messages", asked)
        assert told.status == 200
        if streamed:
            partial = [
                e["delta"]["partial_json"] for e in events(told.body) if e["type"] == "content_block_delta"
            ]
            assert "".join(partial) == slip
            assert events(told.body)[-1]["type"] == "message_stop"
        else:
            (block,) = told.json["content"]
            assert block["input"] == {"_raw": slip}
            assert "lower=content[].input" in told.headers["x-modelplex-changes"]
        assert len(up.seen) == 2


async def test_a_stream_reset_at_any_byte_never_looks_whole(tmp_path: Path) -> None:
    body = b"".join(chat_stream("Hello", "you"))
    wire = STREAM_HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    ends = range(1, len(wire))
    whole = body[: body.index(b'"finish_reason": "stop"')]
    scripts = [raw(wire[:end]) for end in ends]
    config = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"
    async with provider(*scripts) as up, gateway(one(up.url) + config, folder=tmp_path) as gw:
        for end in ends:
            # The client pool may try once more where a kept connection broke before an answer; here
            # each is new.
            got = await gw.chat(stream=True)
            if got.status != 200:
                assert got.status == 502
                continue
            if b"[DONE]" in got.body or any(
                c["finish_reason"] for e in events(got.body) for c in e.get("choices", [])
            ):
                assert end > len(STREAM_HEAD) + len(whole)
            else:
                assert "error" in events(got.body)[-1]
        assert len(up.seen) == len(ends)


async def test_an_unread_answer_that_breaks_is_cut_where_its_client_sees_it(tmp_path: Path) -> None:
    async with provider(stream(b"12345", end=False)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        from modelplex.http_client import ConnectionCut

        reply = await gw.send("POST", "/v1/audio/speech", b'{"model":"m","input":"x"}')
        with pytest.raises(ConnectionCut):
            await reply.body(limit=10_000)


async def test_a_silent_stream_gets_comments_and_then_times_out(tmp_path: Path) -> None:
    config = "[server]\nping_interval = 0.05\n" + one("URL", idle_timeout=0.4)
    async with provider(stream(chunk({"content": "Hel"}), then=stall)) as up:
        async with gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
            got = await gw.chat(stream=True)
            assert got.body.count(b": ping\n\n") >= 2
            record = await gw.record()
            assert record.code == "upstream_timeout"
            assert_broken(got, record)


async def test_before_the_first_byte_of_the_upstream_nothing_is_sent(tmp_path: Path) -> None:
    config = (
        "[server]\nping_interval = 0.02\n" + one("URL", first_byte_timeout=0.3) + "[failover]\nretries = 0\n"
    )
    async with provider(stall) as up, gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=True)
        assert (got.status, got.error["code"]) == (504, "upstream_timeout")


async def test_a_held_start_is_sent_when_the_silence_lasts(tmp_path: Path) -> None:
    start = chunk({"role": "assistant", "content": ""})
    config = "[server]\nping_interval = 0.05\n" + one("URL", idle_timeout=5.0)
    async with provider(stream(start, then=stall)) as up:
        async with gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
            body = b'{"model":"m","stream":true,"messages":[]}'
            reply = await asyncio.wait_for(gw.send("POST", "/v1/chat/completions", body), WAIT_S)
            assert await reply.chunk() == start
            reply.close()


# --- the caller goes ------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_caller_that_hangs_up_while_it_waits_ends_the_upstream_at_once(
    streamed: bool, tmp_path: Path
) -> None:
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as gw:
        asking = asyncio.create_task(gw.chat(stream=streamed))
        async with asyncio.timeout(WAIT_S):
            while not up.seen:
                await asyncio.sleep(0.005)
        asking.cancel()
        await asyncio.wait_for(up.hung_up.wait(), 1.0)
        record = await gw.record()
        assert (record.outcome, record.blame) == ("client_closed", "client")
        health = (await gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"]
        assert health == []


async def test_a_caller_that_hangs_up_in_mid_stream_ends_the_upstream_and_leaves_a_record(
    tmp_path: Path,
) -> None:
    start = stream(chunk({"content": "Hel"}, usage=USAGE), then=stall)
    async with provider(start) as up, gateway(one(up.url), folder=tmp_path) as gw:
        reply = await gw.send(
            "POST", "/v1/chat/completions", b'{"model":"m","stream":true,"messages":[]}', unix=True
        )
        assert await reply.chunk()
        reply.close()
        await asyncio.wait_for(up.hung_up.wait(), 1.0)
        record = await gw.record()
        assert (record.outcome, record.usage is not None) == ("client_closed", True)


async def test_a_slow_caller_stops_the_reading_of_its_upstream(tmp_path: Path) -> None:
    sent = 0
    piece = chunk({"content": "x" * 1000})

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            sent += len(piece)

    async with provider(stream(then=flood)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        reply = await gw.send(
            "POST", "/v1/chat/completions", b'{"model":"m","stream":true,"messages":[]}', unix=True
        )
        assert await reply.chunk()
        async with asyncio.timeout(WAIT_S):
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.sleep(0.3)
        # Kernel buffers on two connections and 64 KiB a hop of ours; without backpressure it would
        # be all that it can write.
        assert sent < 20_000_000
        reply.close()


# --- the end --------------------------------------------------------------------------------------


async def test_a_drain_ends_what_outlasts_it_with_an_error_in_its_own_protocol(tmp_path: Path) -> None:
    config = "[server]\ndrain_timeout = 0.2\n" + one("URL")
    async with provider(stream(chunk({"content": "Hel"}), then=stall), stall) as up:
        async with gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
            streaming = asyncio.create_task(gw.chat(stream=True))
            async with asyncio.timeout(WAIT_S):
                while not up.seen:
                    await asyncio.sleep(0.005)
            waiting = asyncio.create_task(gw.chat(unix=True))
            async with asyncio.timeout(WAIT_S):
                while len(up.seen) < 2:
                    await asyncio.sleep(0.005)
            gw.process.stop()
            got = await asyncio.wait_for(streaming, WAIT_S)
            assert text(got.body) == "Hel"
            assert events(got.body)[-1]["error"]["code"] == "shutting_down"
            late = await asyncio.wait_for(waiting, WAIT_S)
            assert (late.status, late.error["code"]) == (503, "shutting_down")
        assert not Path(gw.socket).exists()


async def test_a_drain_lets_running_answers_finish(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def wait(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await go_on.wait()

    pieces = chat_stream("Hi")

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stream(*pieces[:2], then=wait, end=False)(reader, writer)

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for at, piece in enumerate(pieces):
            if at == 2:
                await go_on.wait()
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    del slowly
    async with provider(act) as up, gateway(one(up.url), folder=tmp_path) as gw:
        streaming = asyncio.create_task(gw.chat(stream=True))
        async with asyncio.timeout(WAIT_S):
            while not up.seen:
                await asyncio.sleep(0.005)
        gw.process.stop()
        await asyncio.sleep(0)
        go_on.set()
        got = await asyncio.wait_for(streaming, WAIT_S)
        assert b"[DONE]" in got.body


async def test_a_changed_config_is_loaded_without_dropping_a_stream_and_a_faulty_one_is_refused(
    tmp_path: Path,
) -> None:
    go_on = asyncio.Event()
    pieces = chat_stream("Hi")

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for at, piece in enumerate(pieces):
            if at == 2:
                await go_on.wait()
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with (
        provider(act) as up,
        provider(answer(chat_answer("new"))) as other,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        streaming = asyncio.create_task(gw.chat(stream=True))
        async with asyncio.timeout(WAIT_S):
            while not up.seen:
                await asyncio.sleep(0.005)
        file = tmp_path / "config.toml"
        old = file.read_text()
        file.write_text(old.replace("priority", "priorty") + "nonsense = 1\n")
        await gw.process.reload()
        assert (await gw.ask("GET", "/health")).status == 200
        assert list(gw.process.app.gateway.upstreams) == ["up"]
        file.write_text(old + one(other.url, name="new", models='["n"]'))
        async with asyncio.timeout(WAIT_S):  # it is seen without a signal
            while list(gw.process.app.gateway.upstreams) != ["up", "new"]:
                await asyncio.sleep(0.02)
        assert (await gw.chat("n")).json["choices"][0]["message"]["content"] == "new"
        go_on.set()
        got = await asyncio.wait_for(streaming, WAIT_S)
        assert b"[DONE]" in got.body


# --- what agents act on ---------------------------------------------------------------------------

FULL = {"code": "context_length_exceeded", "message": "words of the provider"}


def failed_stream(error: dict[str, Any]) -> list[bytes]:
    response: dict[str, Any] = {
        "id": "r",
        "object": "response",
        "status": "in_progress",
        "model": "m",
        "output": [],
    }
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.failed", "response": {**response, "status": "failed", "error": error}},
    ]
    return [b"event: %s\ndata: %s\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in told]


@pytest.mark.parametrize("code", ["context_length_exceeded", "cyber_policy", "usage_not_included"])
async def test_a_responses_stream_that_failed_before_output_is_told_in_the_stream(
    tmp_path: Path, code: str
) -> None:
    error = {"code": code, "message": "words of the provider"}
    config = one("URL") + "[failover]\nretries = 0\n"
    async with (
        provider(stream(*failed_stream(error))) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", "/v1/responses", {"model": "m", "input": "x", "stream": True})
        assert (got.status, got.headers["content-type"]) == (200, "text/event-stream")
        *_, last = [json.loads(line[6:]) for line in got.body.split(b"\n") if line.startswith(b"data: ")]
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["code"] == code
        assert "words of the provider" in last["response"]["error"]["message"]
        record = await gw.record()
        assert (record.outcome, record.code) == ("broken", code)


async def test_a_responses_stream_of_another_dialects_provider_tells_an_overflow_alike(
    tmp_path: Path,
) -> None:
    full = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 5 > 4"},
    }
    async with (
        provider(answer(full, status=400)) as up,
        gateway(one(up.url, type="anthropic", api_key="k"), folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", "/v1/responses", {"model": "m", "input": "x", "stream": True})
        assert (got.status, b"response.failed" in got.body, b"context_length_exceeded" in got.body) == (
            200,
            True,
            True,
        )
        whole = await gw.ask("POST", "/v1/responses", {"model": "m", "input": "x"})
        assert (whole.status, json.loads(whole.body)["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_whole_response_that_failed_is_an_error_of_its_form(tmp_path: Path) -> None:
    failed: dict[str, Any] = {
        "id": "r",
        "object": "response",
        "status": "failed",
        "model": "m",
        "output": [],
        "error": FULL,
    }
    async with provider(answer(failed)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.ask("POST", "/v1/responses", {"model": "m", "input": "x"})
        assert got.status == 400
        assert json.loads(got.body)["error"] == {"type": None, "param": None, **FULL}


async def test_a_used_up_quota_goes_to_the_next_provider_and_is_told(tmp_path: Path) -> None:
    used_up = {
        "error": {
            "message": "You exceeded your current quota",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        }
    }
    async with provider(answer(used_up, status=429)) as empty, provider(answer(chat_answer())) as up:
        config = one(empty.url, name="empty") + one(up.url, priority=2)
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.headers["x-modelplex-exhausted"]) == (200, "empty")
            assert (await gw.chat()).status == 200
        assert (len(empty.seen), len(up.seen)) == (1, 2)


async def test_a_larger_model_of_the_alias_is_tried_after_an_overflow(tmp_path: Path) -> None:
    full = {
        "error": {"message": "This model's maximum context length is 8 tokens.", "type": "x", "code": None}
    }
    async with provider(answer(full, status=400)) as small, provider(answer(chat_answer())) as large:
        config = one(small.url) + one(large.url, name="large", priority=2)
        async with gateway(config + '[failover]\non_overflow = "next"\n', folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "large")


async def test_a_server_without_responses_is_asked_for_chat_and_it_is_remembered(tmp_path: Path) -> None:
    missing = answer({"detail": "Not Found"}, status=404)
    asked = {"model": "m", "input": "x"}
    async with (
        provider(missing, answer(chat_answer("Hi")), answer(chat_answer("again"))) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", "/v1/responses", asked)
        assert (got.status, got.json["output"][0]["content"][0]["text"]) == (200, "Hi")
        again = await gw.ask("POST", "/v1/responses", asked)
        assert again.json["output"][0]["content"][0]["text"] == "again"
        assert [each.target.removeprefix("/v1") for each in up.seen] == [
            "/responses",
            "/chat/completions",
            "/chat/completions",
        ]


async def test_what_the_config_says_is_missing_is_not_asked_for(tmp_path: Path) -> None:
    async with (
        provider(answer(chat_answer("Hi"))) as up,
        gateway(one(up.url, lacks=["responses"]), folder=tmp_path) as gw,
    ):
        assert (await gw.ask("POST", "/v1/responses", {"model": "m", "input": "x"})).status == 200
        assert [each.target for each in up.seen] == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        (
            "embeddings",
            {"input": "x"},
            {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "model": "m"},
        ),
        ("rerank", {"query": "q", "documents": ["d"]}, {"results": []}),
        ("images/generations", {"prompt": "x"}, {"data": []}),
    ],
)
async def test_a_provider_without_an_endpoint_is_passed_over_and_not_asked_again(
    tmp_path: Path, path: str, body: dict[str, Any], found: dict[str, Any]
) -> None:
    missing = answer({"detail": "Not Found"}, status=404)
    async with provider(missing) as small, provider(answer(found)) as large:
        config = one(small.url) + one(large.url, name="large", priority=2)
        async with gateway(config, folder=tmp_path) as gw:
            for _ in range(2):
                got = await gw.ask("POST", f"/v1/{path}", {"model": "m", **body})
                assert (got.status, got.headers["x-modelplex-provider"]) == (200, "large"), got.body
            assert (len(small.seen), len(large.seen)) == (1, 2)
            only = await gw.ask("POST", f"/v1/{path}", {"model": "up/m", **body})
            assert (only.status, only.json["error"]["code"]) == (400, "unsupported_by_provider"), only.body
            assert f"does not have /{path}" in only.json["error"]["message"]
        assert len(small.seen) == 1


async def test_a_missing_token_count_is_estimated_and_not_asked_for_again(tmp_path: Path) -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hello there"}]}
    missing = answer({"detail": "Not Found"}, status=404)
    endpoints = ["chat/completions", "messages", "messages/count_tokens"]
    async with (
        provider(missing) as up,
        gateway(one(up.url, endpoints=endpoints), folder=tmp_path) as gw,
    ):
        for _ in range(2):
            got = await gw.ask("POST", "/v1/messages/count_tokens", asked)
            assert (got.status, got.json["input_tokens"] > 0) == (200, True)
            assert "input_tokens" in got.headers["x-modelplex-changes"]
        assert [each.target for each in up.seen] == ["/v1/messages/count_tokens"]


async def test_a_server_without_messages_is_asked_for_chat(tmp_path: Path) -> None:
    missing = answer({"detail": "Not Found"}, status=404)
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    config_of = ["chat/completions", "messages"]
    async with (
        provider(missing, answer(chat_answer("Hi")), answer(chat_answer("again"))) as up,
        gateway(one(up.url, endpoints=config_of), folder=tmp_path) as gw,
    ):
        for text in ("Hi", "again"):
            got = await gw.ask("POST", "/v1/messages", asked)
            assert (got.status, got.json["content"][0]["text"]) == (200, text)
        assert [each.target for each in up.seen] == [
            "/v1/messages",
            "/v1/chat/completions",
            "/v1/chat/completions",
        ]


async def test_a_wrong_base_url_is_told_each_time(tmp_path: Path) -> None:
    missing = answer({"detail": "Not Found"}, status=404)
    async with provider(missing, missing) as up, gateway(one(up.url), folder=tmp_path) as gw:
        assert [(await gw.chat()).status for _ in range(2)] == [502, 502]
        assert len(up.seen) == 2


async def test_a_server_of_openais_form_may_rerank(tmp_path: Path) -> None:
    ranked = {"results": [{"index": 0, "relevance_score": 0.5}]}
    async with provider(answer(ranked)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.ask("POST", "/v1/rerank", {"model": "m", "query": "q", "documents": ["d"]})
        assert (got.status, got.json) == (200, ranked)
