"""Messages translated between the protocol eras."""

import pytest

from modelplex.mcp import era_translation
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    META_SERVER,
    RESOURCE_NOT_FOUND,
    Era,
    Json,
    McpReply,
)
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    result,
    tool,
)

ERAS: tuple[Era, Era] = ("legacy", "modern")


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_unknown_members_pass_in_both_directions_for_all_pairs_of_eras(client: Era, era: Era) -> None:
    found: Json = {
        "content": [
            {"type": "hologram", "vendorField": {"deep": [1, {"x": None}]}, "annotations": {"newHint": 1}}
        ],
        # Another value than an object is for clients of 2026-07-28.
        "structuredContent": [1, "any"] if client == "modern" else {"any": [1]},
        "futureField": {"a": 1},
        "_meta": {"example.org/key": {"b": 2}},
    }

    async def script(sent: Sent) -> McpReply:
        return McpReply(result=dict(found))

    server = ScriptedServer("s", era=era, tools=[tool("x", futureHint={"a": [1]})], script=script)
    harness = Harness(server)
    guest = ScriptedClient(client)
    listed = result(await harness.ask(guest, "tools/list"))
    assert listed["tools"][0]["futureHint"] == {"a": [1]}
    got = result(await harness.call(guest, "s__x", {"deep": {"y": [1]}}, futureParam={"z": 1}))
    assert server.sent[0].params["arguments"] == {"deep": {"y": [1]}}
    assert server.sent[0].params["futureParam"] == {"z": 1}
    assert {name: got[name] for name in found if name != "_meta"} == {
        n: v for n, v in found.items() if n != "_meta"
    }
    assert got["_meta"]["example.org/key"] == {"b": 2}


async def test_schemas_arrive_unchanged_and_as_the_same_object() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"a": {"$anchor": "b", "type": "string"}},
        "type": "object",
        "properties": {"x": {"$ref": "https://example.org/never-fetched"}},
        "allOf": [{"$ref": "#b"}],
    }
    harness = Harness(ScriptedServer("s", tools=[{"name": "x", "inputSchema": schema}]))
    (listed,) = result(await harness.ask(ScriptedClient(), "tools/list"))["tools"]
    assert listed["inputSchema"] is schema


@pytest.mark.parametrize("era", ERAS)
async def test_a_clients_envelope_never_reaches_a_server(era: Era) -> None:
    server = ScriptedServer("s", era=era, tools=[tool("x")])
    harness = Harness(server)
    client = ScriptedClient(capabilities={"roots": {}, "sampling": {}, "elicitation": {}})
    meta = {
        "progressToken": 7,
        "traceparent": "00-a-b-01",
        "example.org/key": 1,
        "io.modelcontextprotocol/x": 1,
        "mcp.dev/y": 1,
        "tools.mcp.com/z": 1,
    }
    await harness.call(
        client,
        "s__x",
        _meta=meta,
        inputResponses={"roots": {"roots": [{"uri": "file:///etc"}]}},
        requestState=None,
    )
    (sent,) = server.sent
    assert sent.params["_meta"] == {"progressToken": 7, "traceparent": "00-a-b-01", "example.org/key": 1}
    assert sent.capabilities == {}
    assert not sent.params.get("inputResponses")


async def test_vendor_keys_pass_by_the_allow_list_in_both_directions() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(
            result={
                "content": [],
                "_meta": {
                    "a.org/x": 1,
                    "b.org/y": 2,
                    META_SERVER: {"name": "forged"},
                    "io.modelcontextprotocol/z": 3,
                },
            }
        )

    server = ScriptedServer("s", tools=[tool("x")], script=script)
    harness = Harness(server, meta=("a.org/*",))
    meta = {"a.org/x": 1, "b.org/y": 2, "tracestate": "t"}
    got = result(await harness.call(ScriptedClient(), "s__x", _meta=meta))
    assert server.sent[0].params["_meta"] == {"a.org/x": 1, "tracestate": "t"}
    assert set(got["_meta"]) == {"a.org/x", META_SERVER}
    assert got["_meta"][META_SERVER]["name"] == "modelplex"
    assert set(result(await harness.call(ScriptedClient("legacy"), "s__x"))["_meta"]) == {"a.org/x"}


def test_keys_with_the_protocols_prefix_are_reserved() -> None:
    for key in (
        "io.modelcontextprotocol/x",
        "mcp/x",
        "modelcontextprotocol.io/x",
        "api.mcp.dev/x",
        "com.mcp.tools/x",
    ):
        assert era_translation.reserved(key), key
    for key in ("progressToken", "example.com/x", "com.example.mcp/x", "plain"):
        assert not era_translation.reserved(key), key


@pytest.mark.parametrize(
    ("client", "method", "code", "expected"),
    [
        ("modern", "tools/call", -32042, INTERNAL_ERROR),
        ("modern", "resources/read", RESOURCE_NOT_FOUND, INVALID_PARAMS),
        ("modern", "tools/call", RESOURCE_NOT_FOUND, INTERNAL_ERROR),
        ("modern", "tools/call", -32050, INTERNAL_ERROR),
        ("modern", "tools/call", -32001, -32001),
        ("modern", "tools/call", INVALID_PARAMS, INVALID_PARAMS),
        ("modern", "tools/call", -32500, INTERNAL_ERROR),
        ("legacy", "tools/call", -32022, INTERNAL_ERROR),
        ("legacy", "tools/call", -32042, -32042),
        ("legacy", "resources/read", RESOURCE_NOT_FOUND, RESOURCE_NOT_FOUND),
        ("legacy", "tools/call", 42, 42),
    ],
)
def test_a_code_that_the_client_s_revision_does_not_have_becomes_an_internal_error(
    client: Era, method: str, code: int, expected: int
) -> None:
    assert era_translation.error_for_client(
        {"code": code, "message": "m", "data": 1}, era=client, method=method
    ) == {
        "code": expected,
        "message": "m",
        "data": 1,
    }
