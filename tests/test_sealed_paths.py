"""The sealed policy through a whole gateway, on real sockets: paths, queries, headers, framing and
response headers (docs/reference/isolation-requirements.md#served-endpoints and
#headers-and-framing).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.gateways import gateway, one
from tests.sealed import CANARY, DIALECTS, FORMS, JSON, Sealed, path_of, plain, sealed_world, stripped, told
from tests.upstreams import answer, chat_answer, chat_stream, provider, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sealed]:
    async with sealed_world(tmp_path_factory.mktemp("w")) as made:
        yield made


# --- S1: what is not served is nowhere ------------------------------------------------------------

NOT_SERVED = {
    "chat": (
        "/v1/files /v1/files/file-1/content /v1/uploads /v1/vector_stores /v1/conversations /v1/chat/completions/abc /v1/threads /v1/assistants "
        "/v1/skills /v1/audio/voices /v1/containers /v1/agents /v1/batches /v1/evals /v1/fine_tuning/jobs /v1/chatkit/sessions /v1/videos "
        "/v1/webhook_endpoints /v1/realtime/calls /v1/realtime/client_secrets /v1/live/sessions /v1/vaults /v1/organization/admin_api_keys "
        "/v1/projects /v1/responses/resp_1 /v1/responses/resp_1/cancel /models/v1/files /upload/v1beta/files /v1/tunnels /V1/chat/completions /proxy"
    ),
    "messages": "/v1/messages/batches /v1/messages/batches/b1/results /v1/messages/x",
    "gemini": (
        "/v1beta/files /v1beta/files:register /v1beta/cachedContents /v1beta/fileSearchStores /v1beta/tunedModels /v1beta/interactions "
        "/v1beta/voices /v1beta/batches /v1beta/agents /v1beta/webhooks /v1alpha/auth_tokens /v1beta/credentials"
    ),
    "ollama": "/api/pull /api/push /api/create /api/web_search /api/web_fetch /api/experimental/web_search /api/delete /api/copy /models/api/pull",
}


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(
    ("form", "path"), [(form, path) for form, paths in NOT_SERVED.items() for path in paths.split()]
)
async def test_s1_a_path_that_is_not_served_is_a_404_in_its_dialect(
    everywhere: Sealed, form: str, path: str, method: str
) -> None:
    everywhere.forget()
    got = await everywhere.gw.ask(method, path, {"model": "m-chat"} if method == "POST" else None, unix=True)
    assert got.status == 404
    message, code, _ = told(form, got)
    assert message
    assert code in {"not_found", ""}
    assert everywhere.arrived == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/organizations/me",
        "/v1/user_profiles",
        "/v1/memory_stores",
        "/v1/agents",
        "/v1/dreams",
    ],
)
async def test_s1_a_path_of_two_forms_is_a_404_in_that_of_the_client(everywhere: Sealed, path: str) -> None:
    got = await everywhere.gw.ask(
        "POST", path, {}, headers=[JSON, (b"anthropic-version", b"2023-06-01")], unix=True
    )
    assert got.status == 404
    assert told("messages", got)[1] == "not_found"


# --- S2, S3: paths that mean two things, models that are no segment -------------------------------

DISGUISES = (
    "/v1/%2e%2e/chat/completions",
    "/v1/%2E%2E/chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1/chat%5ccompletions",
    "/v1/../v1/chat/completions",
    "/v1/./chat/completions",
    "/v1//chat/completions",
    "//v1/chat/completions",
    "/v1/chat/completions/..",
    "/v1/chat/completions%00",
    "/v1/%252e%252e/files",
    "/v1\\chat/completions",
    "/v1beta/models/..%2Ffiles:generateContent",
    "/v1beta/models/../../v1/files:generateContent",
    "/v1beta/models/m%2F..%2Fx:generateContent",
)


@pytest.mark.parametrize("path", DISGUISES)
async def test_s2_a_path_that_could_be_read_in_two_ways_is_a_400(everywhere: Sealed, path: str) -> None:
    everywhere.forget()
    for unix in (True, False):
        got = await everywhere.gw.ask("POST", path, plain("chat", "m-chat"), unix=unix)
        assert got.status == 400
        assert everywhere.arrived == []


async def test_s2_the_page_of_a_model_takes_encoded_slashes_and_is_answered_here(everywhere: Sealed) -> None:
    everywhere.forget()
    for target in ("/v1/models/chat%2Fm-chat", "/models/v1/models/chat%2fm-chat", "/v1/models/chat/m-chat"):
        got = await everywhere.gw.ask("GET", target, unix=True)
        assert (got.status, got.json["id"]) == (200, "chat/m-chat")
    for target in ("/v1/models/a%2F..%2Fb", "/v1/models/a%2F%2Fb", "/v1/models/%2e%2e", "/v1/models/a%5cb"):
        got = await everywhere.gw.ask("GET", target, unix=True)
        assert (got.status, got.error["code"]) == (400, "ambiguous_path")
    got = await everywhere.gw.ask("GET", "/v1/models/groq%2Fcompound", unix=True)
    assert (got.status, got.error["code"]) == (404, "model_not_found")
    assert everywhere.arrived == []


@pytest.mark.parametrize(
    "segment",
    [
        "m-gemini:predictLongRunning", "m-gemini:batchGenerateContent", "m-gemini:", "m-gemini", ":generateContent",         "m%20gemini:generateContent", "m;x:generateContent", "m*:generateContent", "m%C3%A9:generateContent", "m,x:generateContent",
        "m=x:generateContent", "m'x:generateContent", "m%0d%0ax:generateContent", "m-gemini:generateContent:x", "m-gemini:GenerateContent", "-/:generateContent",
    ],
)  # fmt: skip
async def test_s3_a_model_or_a_verb_that_is_none_is_a_400(everywhere: Sealed, segment: str) -> None:
    everywhere.forget()
    got = await everywhere.gw.ask("POST", f"/v1beta/models/{segment}", plain("gemini", ""), unix=True)
    assert got.status == 400
    assert everywhere.arrived == []


@pytest.mark.parametrize(
    "name", ["../../files", "a/../../b", "..", ".", "a/b", "a:b", "a?x=1", "a#b", "a%2e", "a b", "é", "a\\b", "a\x00b"]
)  # fmt: skip
async def test_s3_what_goes_into_a_providers_path_is_one_segment(tmp_path: Path, name: str) -> None:
    """A glob in the config lets any name through, but not into a path."""
    act = answer({"candidates": []})
    async with (
        provider(act) as up,
        gateway(
            one(up.url.removesuffix("/v1"), type="gemini", models='["*"]', api_key="k" * 12), folder=tmp_path
        ) as gw,
    ):
        got = await gw.chat(name, unix=True)
        assert (got.status, got.error["param"]) == (400, "model")
        assert "unknown-form" in got.error["message"]
        listing = "/v1beta/models?pageSize=1000"
        assert {seen.target for seen in up.seen} <= {listing}
        await gw.chat(name)  # an open caller's goes in one segment as well, encoded
        (path,) = {seen.target.partition("?")[0] for seen in up.seen if seen.target != listing}
        assert path.count("/") == 3, path
        assert path.startswith("/v1beta/models/")
        assert path.endswith(":generateContent")


async def test_s3_a_name_that_the_config_spells_out_goes_as_it_is(tmp_path: Path) -> None:
    async with (
        provider(answer({"candidates": []})) as up,
        gateway(
            one(up.url.removesuffix("/v1"), type="gemini", models='["a:b"]', api_key="k" * 12),
            folder=tmp_path,
        ) as gw,
    ):
        await gw.chat("a:b", unix=True)
        assert up.seen[0].target.startswith("/v1beta/models/a%3Ab:")


# --- S4, S11, S12, S14, S17: queries, keys, headers -----------------------------------------------

QUERY = f"key={CANARY}&beta=true&limit=1000&api-version={CANARY}&$alt={CANARY}&{CANARY}"
OURS = {
    "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent", "authorization", "x-api-key", "x-goog-api-key", "anthropic-version",
    "anthropic-beta",
}  # fmt: skip
PLACES = (
    b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"openai-organization", b"openai-project", b"openai-beta", b"anthropic-workspace-id",
    b"anthropic-user-profile-id", b"anthropic-organization-id", b"x-goog-user-project", b"x-goog-upload-protocol", b"x-amz-security-token", b"idempotency-key",
    b"http-referer", b"referer", b"x-title", b"x-forwarded-for", b"x-forwarded-host", b"forwarded", b"x-codex-installation-id", b"session-id", b"thread-id",
    b"originator", b"version", b"x-client-request-id", b"x-request-id", b"x-stainless-os", b"proxy-authorization", b"user-agent", b"accept-language", b"accept",
)  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", FORMS)
async def test_s4_no_byte_of_the_query_goes_on(everywhere: Sealed, form: str, dialect: str) -> None:
    body = plain(form, f"m-{dialect}")
    without, bare = await everywhere.send(form, dialect, body)
    got, seen = await everywhere.send(form, dialect, body, query=QUERY)
    assert (without.status, got.status) == (200, 200)
    assert bare is not None
    assert seen is not None
    assert seen.target == bare.target
    assert CANARY.encode() not in seen.head + seen.body
    assert b"limit=" not in seen.head
    assert b"beta=" not in seen.head


@pytest.mark.parametrize(
    "target", ["/v1/messages/count_tokens", "/v1/embeddings", "/v1/responses/input_tokens"]
)
async def test_s4_nor_of_a_smaller_forms(everywhere: Sealed, target: str) -> None:
    everywhere.forget()
    for dialect in DIALECTS:
        everywhere.answers(dialect)
        body = {**plain("messages", f"m-{dialect}"), "input": "Hi"}
        await everywhere.gw.ask("POST", f"{target}?{QUERY}", body, unix=True)
    assert all(CANARY.encode() not in seen.head + seen.body for seen in everywhere.arrived)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", FORMS)
async def test_s11_s12_s14_nothing_of_the_clients_headers_goes_on(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    known = len(everywhere.gw.records)
    invented = [(b"x-made-up-%d" % n, CANARY.encode()) for n in range(25)]
    invented += [(b"made-up-%d" % n, CANARY.encode()) for n in range(25)]
    value = CANARY.encode()
    places = [(name, b"Bearer " + value if name == b"authorization" else value) for name in PLACES]
    got, seen = await everywhere.send(
        form, dialect, plain(form, f"m-{dialect}"), headers=[*places, *invented], query=f"key={CANARY}"
    )
    assert got.status == 200
    assert seen is not None
    assert CANARY.encode() not in seen.head + seen.body
    assert set(seen.headers) <= OURS
    assert seen.headers["user-agent"].startswith("modelplex/")
    record = await everywhere.gw.record(known + 1)
    assert CANARY not in repr(record)
    assert CANARY not in (Path(everywhere.gw.socket).parent / "log.json").read_text()


@pytest.mark.parametrize("form", FORMS)
async def test_s17_no_key_and_any_key_are_served(everywhere: Sealed, form: str) -> None:
    body = plain(form, "m-chat")
    for headers in (
        [],
        [(b"authorization", b"Bearer unused")],
        [(b"x-api-key", b"unused")],
        [(b"x-goog-api-key", b"unused")],
        [(b"authorization", b"")],
    ):
        got, _ = await everywhere.send(form, "chat", body, headers=headers)
        assert got.status == 200


@pytest.mark.parametrize("form", FORMS)
async def test_s17_every_official_client_is_served_with_the_key_that_it_must_have(
    everywhere: Sealed, form: str
) -> None:
    for dialect in DIALECTS:
        everywhere.answers(dialect, text="Hello")
        act = everywhere.world.providers[dialect].scripts[0]
        assert (await everywhere.world.ask(form, dialect, act, stream=False)).said == "Hello"


# --- S13: betas and versions ----------------------------------------------------------------------

BETAS = b"claude-code-20250219,mcp-client-2025-11-20, context-1m-2025-08-07,files-api-2025-04-14,interleaved-thinking-2025-05-14"


async def test_s13_betas_that_reach_out_are_dropped_and_told(everywhere: Sealed) -> None:
    headers = [(b"anthropic-version", b"2023-06-01"), (b"anthropic-beta", BETAS)]
    got, seen = await everywhere.send(
        "messages", "messages", plain("messages", "m-messages"), headers=headers
    )
    assert seen is not None
    assert (
        seen.headers["anthropic-beta"]
        == "claude-code-20250219,context-1m-2025-08-07,interleaved-thinking-2025-05-14"
    )
    assert stripped(got) == {
        "/anthropic-beta/mcp-client-2025-11-20": "beta",
        "/anthropic-beta/files-api-2025-04-14": "beta",
    }
    _, seen = await everywhere.send(
        "messages",
        "messages",
        plain("messages", "m-messages"),
        headers=[(b"anthropic-beta", b"mcp-client-2025-11-20")],
    )
    assert seen is not None
    assert "anthropic-beta" not in seen.headers
    _, seen = await everywhere.send("messages", "chat", plain("messages", "m-chat"), headers=headers)
    assert seen is not None
    assert b"anthropic" not in seen.head.lower()


async def test_s13_betas_in_several_headers_say_no_more_than_in_one(everywhere: Sealed) -> None:
    said = [b"claude-code-20250219", b"claude-code-20250220", b"context-1m-words-of-mine-2025-08-07"]
    headers = [(b"anthropic-beta", value) for value in said]
    got, seen = await everywhere.send(
        "messages", "messages", plain("messages", "m-messages"), headers=headers
    )
    assert seen is not None
    assert seen.headers["anthropic-beta"] == "claude-code-20250219"
    assert stripped(got) == {f"/anthropic-beta/{value.decode()}": "beta" for value in said[1:]}


async def test_s13_a_version_that_is_none_does_not_go_on(everywhere: Sealed) -> None:
    body = plain("messages", "m-messages")
    for version, sent in (
        ("2026-10-21", "2026-10-21"),
        (CANARY, "2023-06-01"),
        ("2023-06-01x", "2023-06-01"),
    ):
        got, seen = await everywhere.send(
            "messages", "messages", body, headers=[(b"anthropic-version", version.encode())]
        )
        assert seen is not None
        assert seen.headers["anthropic-version"] == sent
        assert stripped(got) == ({} if version == sent else {"/anthropic-version": "unknown-field"})


# --- S6, S7: bodies that are none -----------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_s5_half_a_surrogate_pair_is_mended_before_anybody_reads_it(
    everywhere: Sealed, form: str
) -> None:
    body = json.dumps(plain(form, "m-chat")).encode()[:-1] + b',"x":"\\ud800"}'
    got, seen = await everywhere.send(form, "chat", body)
    assert got.status == 200, got.body
    assert seen is not None
    assert b"ud800" not in seen.body


@pytest.mark.parametrize(
    "tail",
    [b'"x":"\xff\xfe"}', b'"x":NaN}', b'"x":Infinity}', b'"x":-Infinity}', b'"x":' + b"[" * 200 + b"]" * 200 + b"}", b'"x":1,}', b'"a":1,"a":2}', b'"x":{"model":1,"model":2}}'],
    ids=["utf-8", "nan", "inf", "-inf", "deep", "comma", "twice", "twice-inside"],
)  # fmt: skip
@pytest.mark.parametrize("form", FORMS)
async def test_s5_s6_what_parsers_would_read_differently_is_a_400(
    everywhere: Sealed, form: str, tail: bytes
) -> None:
    body = json.dumps(plain(form, "m-chat")).encode()[:-1] + b"," + tail
    got, seen = await everywhere.send(form, "chat", body)
    assert got.status == 400
    assert told(form, got)[0]
    assert seen is None
    if b"[[[" in tail:
        assert "128 levels" in told(form, got)[0]


async def test_s6_a_body_above_the_limit_is_a_413_that_names_it(tmp_path: Path) -> None:
    config = "[server]\nmax_request_size = 2000\n"
    async with (
        provider(answer(chat_answer())) as up,
        gateway(config + one(up.url), folder=tmp_path) as gw,
    ):
        got = await gw.chat(unix=True, messages=[{"role": "user", "content": "x" * 3000}])
        assert (got.status, got.error["code"]) == (413, "request_too_large")
        assert "2000" in got.error["message"]
        assert "max_request_size" in got.error["message"]
        assert up.seen == []


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"zstd", b"x", b"identity, gzip"])
@pytest.mark.parametrize("form", FORMS)
async def test_s7_a_body_that_is_packed_is_a_415(everywhere: Sealed, form: str, coding: bytes) -> None:
    packed = gzip.compress(json.dumps(plain(form, "m-chat")).encode())
    for unix in (True, False):
        everywhere.forget()
        target = path_of(form, "m-chat")
        got = await everywhere.gw.ask(
            "POST", target, packed, headers=[JSON, (b"content-encoding", coding)], unix=unix
        )
        assert got.status == 415
        assert told(form, got)[1] in {"unsupported_encoding", ""}
        assert everywhere.arrived == []


# --- S9, S10: knocks ------------------------------------------------------------------------------


async def test_s9_a_websocket_is_refused_at_once(everywhere: Sealed) -> None:
    everywhere.forget()
    upgrade = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-version", b"13")]
    got = await everywhere.gw.ask("GET", "/v1/responses", headers=upgrade, unix=True)
    assert (got.status, got.error["code"]) == (426, "websocket_not_served")
    assert everywhere.arrived == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "base",
    [
        "/",
        "/v1",
        "/v1/",
        "/models",
        "/models/",
        "/models/v1",
        "/models/v1/",
        "/api",
        "/models/api/",
        "/v1beta",
        "/v1alpha/",
        "/health",
    ],
)
async def test_s10_a_knock_at_a_base_is_answered_here(everywhere: Sealed, base: str, method: str) -> None:
    everywhere.forget()
    got = await everywhere.gw.ask(method, base, unix=True)
    assert got.status == 200
    assert everywhere.arrived == []


@pytest.mark.parametrize("view", ["status", "config", "metrics", "mcp", "models", ""])
async def test_s10_the_inside_is_not_on_the_socket(everywhere: Sealed, view: str) -> None:
    got = await everywhere.gw.ask("GET", f"/_internal/{view}", unix=True)
    assert got.status == 404


async def test_no_answer_invites_web_pages(everywhere: Sealed) -> None:
    origin = (b"origin", b"http://localhost:3000")
    for method, target in (("GET", "/v1/models"), ("OPTIONS", "/v1/chat/completions"), ("GET", "/v1/x")):
        for unix in (True, False):
            got = await everywhere.gw.ask(method, target, headers=[origin], unix=unix)
            assert not [name for name in got.headers if name.startswith("access-control")]


# --- S15, S16: what comes back --------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_s15_a_redirect_is_a_502_and_nobody_follows_it(
    tmp_path: Path, status: int, *, streamed: bool
) -> None:
    async with provider(answer(chat_answer())) as elsewhere:
        act = answer({}, status=status, location=f"{elsewhere.url}/chat/completions")
        async with (
            provider(act) as up,
            gateway(one(up.url) + "\n[failover]\nretries = 0\n", folder=tmp_path) as gw,
        ):
            got = await gw.chat(unix=True, stream=streamed)
            assert got.status == 502
            assert "location" not in got.headers
            assert elsewhere.url not in got.body.decode()
            assert len(up.seen) == 1
            assert elsewhere.seen == []


SAID = {
    "set_cookie": "a=b",
    "openai_organization": "org-secret",
    "openai_project": "proj_secret",
    "anthropic_organization_id": "org-secret",
    "x_goog_user_project": "secret",
    "cf_ray": "x",
    "server": "nginx",
    "alt_svc": "h3",
    "report_to": "https://collect.example",
    "link": "<https://x.example>; rel=preload",
    "x_ratelimit_remaining_requests": "7",
    "retry_after": "3",
}
KEPT = {
    "content-type", "content-length", "connection", "date", "transfer-encoding", "cache-control", "x-accel-buffering", "x-request-id", "x-should-retry",
    "retry-after", "x-ratelimit-remaining-requests",
}  # fmt: skip


@pytest.mark.parametrize("status", [200, 400, 429, 500])
async def test_s16_of_the_providers_headers_only_its_limits_come_back(tmp_path: Path, status: int) -> None:
    body = chat_answer() if status == 200 else {"error": {"message": "no", "type": "x"}}
    async with (
        provider(answer(body, status=status, **SAID)) as up,
        gateway(one(up.url) + "\n[failover]\nretries = 0\n", folder=tmp_path) as gw,
    ):
        got = await gw.chat(unix=True)
        assert {name for name in got.headers if not name.startswith("x-modelplex-")} <= KEPT
        assert "secret" not in repr(got.headers)
        assert got.headers["x-ratelimit-remaining-requests"] == "7"


async def test_s16_of_a_streams_headers_too(tmp_path: Path) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nset-cookie: a=b\r\n"
        b"openai-organization: org-secret\r\n\r\n"
    )
    async with (
        provider(stream(*chat_stream("Hi"), head=head)) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        got = await gw.chat(unix=True, stream=True)
        assert {name for name in got.headers if not name.startswith("x-modelplex-")} <= KEPT
