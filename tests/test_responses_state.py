"""Going on from an answer by its id: kept here where that is configured, never at a provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from tests.gateways import Running, gateway, one
from tests.upstreams import answer, chat_answer, chat_stream, provider, stream

MEMORY = '[server]\nkeep_responses = "memory"\n'


async def respond(gw: Running, *, unix: bool = False, **body: Any) -> Any:
    return await gw.ask("POST", "/models/v1/responses", {"model": "m", **body}, unix=unix)


def native(id: str, text: str) -> dict[str, Any]:
    """A whole answer of a provider that speaks Responses itself."""
    content: list[dict[str, Any]] = [{"type": "output_text", "text": text, "annotations": []}]
    message: dict[str, Any] = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return {
        "id": id,
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [message],
        "usage": usage,
    }


async def test_a_client_goes_on_by_id_with_a_provider_that_speaks_another_form(tmp_path: Path) -> None:
    config = MEMORY + one("URL", type="together")
    async with (
        provider(answer(chat_answer("Hello")), answer(chat_answer("Again"))) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        first = (await respond(gw, input="one")).json
        assert (first["store"], first["previous_response_id"]) == (True, None)
        second = (await respond(gw, input="two", previous_response_id=first["id"])).json
        assert second["previous_response_id"] == first["id"]
        told = [(m["role"], m["content"]) for m in up.seen[1].json["messages"]]
        assert told == [("user", "one"), ("assistant", "Hello"), ("user", "two")]


async def test_the_record_has_the_call_as_child_and_both_bodies(tmp_path: Path) -> None:
    """The client's few bytes, and the whole conversation that went to the provider."""
    store = tmp_path / "records.sqlite"
    config = MEMORY + one("URL", type="together") + f'[record]\ncontent = "full"\nstore = "{store}"\n'
    async with provider(stream(*chat_stream("Hello")), answer(chat_answer("Again"))) as up:
        async with gateway(config.replace("URL", up.url), folder=tmp_path) as gw:
            begun = (await respond(gw, input="one", stream=True)).body.decode()
            first = json.loads(begun.split("data: ")[1].split("\n")[0])["response"]["id"]
            await respond(gw, input="two", previous_response_id=first)
            await respond(gw, input="three", previous_response_id="resp_unknown")
        sent = [each.body for each in up.seen]
    db = open_database(store, read_only=True)
    one_, two, three = reversed(queries.recent_calls(db))
    assert (two.parent, two.relation, two.run) == (one_.id, "turn", one_.run)
    assert (three.status, three.parent) == (400, None)
    body = queries.request_body(db, two.id)
    assert body is not None
    assert json.loads(body) == {"model": "m", "input": "two", "previous_response_id": first}
    assert two.bytes_in == len(body)
    assert [queries.sent_body(db, call.id, 1) for call in (one_, two)] == sent
    db.close()


async def test_a_provider_with_the_same_form_gets_the_whole_conversation_and_keeps_nothing(
    tmp_path: Path,
) -> None:
    async with (
        provider(answer(native("resp_up1", "Hello")), answer(native("resp_up2", "Again"))) as up,
        gateway(MEMORY + one(up.url), folder=tmp_path) as gw,
    ):
        first = await respond(gw, input="one")
        assert first.json == native("resp_up1", "Hello")
        await respond(gw, input="two", previous_response_id="resp_up1")
        assert [seen.target for seen in up.seen] == ["/v1/responses", "/v1/responses"]
        assert [seen.json["store"] for seen in up.seen] == [False, False]
        sent = up.seen[1].json
        assert "previous_response_id" not in sent
        assert [item.get("role") for item in sent["input"]] == ["user", "assistant", "user"]


async def test_a_streamed_answer_is_kept_before_its_client_can_ask_for_it(tmp_path: Path) -> None:
    config = MEMORY + one("URL", type="together")
    async with (
        provider(stream(*chat_stream("Hel", "lo"))) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        got = await respond(gw, input="one", stream=True)
        last = json.loads(got.body.strip().rsplit(b"data: ", 1)[1])
        assert last["type"] == "response.completed"
        kept = await gw.ask("GET", f"/v1/responses/{last['response']['id']}")
        assert kept.json == last["response"]
        items = await gw.ask("GET", f"/v1/responses/{last['response']['id']}/input_items")
        assert [item["role"] for item in items.json["data"]] == ["user"]


async def test_what_one_listener_keeps_another_does_not_find(tmp_path: Path) -> None:
    config = MEMORY + one("URL", type="together")
    async with (
        provider(answer(chat_answer())) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        name = (await respond(gw, input="one")).json["id"]
        assert (await gw.ask("GET", f"/v1/responses/{name}", unix=True)).status == 404
        refused = await respond(gw, input="two", previous_response_id=name, unix=True)
        assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")
        assert (await gw.ask("GET", f"/v1/responses/{name}")).status == 200


async def test_an_answer_that_is_not_to_be_kept_is_not(tmp_path: Path) -> None:
    config = MEMORY + one("URL", type="together")
    async with (
        provider(answer(chat_answer())) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        told = (await respond(gw, input="one", store=False)).json
        assert told["store"] is False
        assert (await gw.ask("GET", f"/v1/responses/{told['id']}")).status == 404


async def test_a_deleted_answer_is_gone_and_none_can_be_cancelled(tmp_path: Path) -> None:
    config = MEMORY + one("URL", type="together")
    async with (
        provider(answer(chat_answer())) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        name = (await respond(gw, input="one")).json["id"]
        assert (await gw.ask("POST", f"/v1/responses/{name}/cancel")).status == 400
        assert (await gw.ask("DELETE", f"/v1/responses/{name}")).json["deleted"] is True
        assert (await gw.ask("GET", f"/v1/responses/{name}")).status == 404


async def test_a_file_keeps_answers_over_a_restart(tmp_path: Path) -> None:
    config = MEMORY.replace('"memory"', json.dumps(str(tmp_path / "state" / "answers.db"))) + one(
        "URL", type="together"
    )
    async with provider(answer(chat_answer())) as up:
        config = config.replace("URL", up.url)
        for folder in (tmp_path / "a", tmp_path / "b"):
            folder.mkdir()
        # The listener is the owner, so both runs must be the same one: the socket's path is.
        async with gateway(config, folder=tmp_path / "a") as gw:
            name = (await respond(gw, input="one", unix=True)).json["id"]
        async with gateway(config, folder=tmp_path / "a") as gw:
            assert (await gw.ask("GET", f"/v1/responses/{name}", unix=True)).status == 200


@pytest.mark.parametrize(
    "more", [{"previous_response_id": "resp_1"}, {"conversation": "c"}, {"background": True}]
)
async def test_without_the_setting_a_state_is_refused_by_name(more: dict[str, Any], tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw:
        got = await respond(gw, input="one", **more)
        assert (got.status, got.error["param"]) == (400, next(iter(more)))
        assert (await gw.ask("GET", "/v1/responses/resp_1")).error["code"] == "not_found"


async def test_an_item_that_is_named_by_its_id_alone_is_put_in(tmp_path: Path) -> None:
    config = MEMORY + one("URL", type="together")
    async with (
        provider(answer(chat_answer("Hello"))) as up,
        gateway(config.replace("URL", up.url), folder=tmp_path) as gw,
    ):
        item = (await respond(gw, input="one")).json["output"][0]["id"]
        said: list[dict[str, Any]] = [
            {"role": "user", "content": "one"},
            {"type": "item_reference", "id": item},
        ]
        assert (await respond(gw, input=[*said, {"role": "user", "content": "two"}])).status == 200
        told = [(m["role"], m["content"]) for m in up.seen[1].json["messages"]]
        assert told == [("user", "one"), ("assistant", "Hello"), ("user", "two")]
        unknown = await respond(gw, input=[{"type": "item_reference", "id": "msg_nope"}])
        assert (unknown.status, unknown.error["param"]) == (400, "input[0].id")
