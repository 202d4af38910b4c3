"""Responses that a request continues, refers to, reads or deletes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, NotFound
from modelplex.core.request import RawRequest
from modelplex.dialects.raw_request import read_request
from modelplex.pipeline.offload import Offload
from modelplex.pipeline.response_store import ResponseStore
from modelplex.pipeline.stored_responses import MAX_REFERENCES, answer_view, open_stored

ITEM = msgspec.Raw(b'{"type":"message","id":"msg_1","role":"assistant","content":[]}')
BODY = b'{"id":"resp_1","object":"response","output":[]}'


def _request(dialect: str = "openai_responses", **members: Any) -> RawRequest:
    body = {"model": "m", "input": "Hi", **members}
    return read_request(json.dumps(body).encode(), endpoint="responses", dialect=dialect)


async def _store() -> ResponseStore:
    store = ResponseStore()
    first = msgspec.Raw(b'{"role":"user","content":"First"}')
    await store.keep("resp_1", input=[first], output=[ITEM], body=BODY, owner="a")
    return store


async def _open(request: RawRequest, store: ResponseStore | None, owner: str = "a") -> RawRequest:
    opened, _ = await open_stored(request, store, owner=owner, offload=Offload())
    return opened


async def test_other_dialects_store_nothing() -> None:
    request = _request("openai_chat")
    assert await open_stored(request, None, owner="a", offload=Offload()) == (request, None)


async def test_an_earlier_response_precedes_the_input() -> None:
    store = await _store()
    opened = await _open(_request(previous_response_id="resp_1"), store)
    given = json.loads(opened.body)["input"]
    assert [item["content"] for item in given] == ["First", [], [{"type": "input_text", "text": "Hi"}]]
    with pytest.raises(BadRequest, match="resp_1") as raised:
        await _open(_request(previous_response_id="resp_1"), store, owner="b")
    assert raised.value.code == "previous_response_not_found"
    await store.close()


async def test_an_item_reference_becomes_the_item() -> None:
    store = await _store()
    reference = {"type": "item_reference", "id": "msg_1"}
    opened = await _open(_request(input=[reference]), store)
    assert json.loads(opened.body)["input"] == [json.loads(bytes(ITEM))]
    with pytest.raises(BadRequest) as raised:
        await _open(_request(input=[reference, {**reference, "id": "other"}]), store)
    assert raised.value.param == "input[1].id"
    with pytest.raises(BadRequest, match=str(MAX_REFERENCES)):
        await _open(_request(input=[reference] * (MAX_REFERENCES + 1)), store)
    await store.close()


async def test_a_state_without_a_store_is_refused() -> None:
    with pytest.raises(BadRequest, match="keep_responses"):
        await _open(_request(previous_response_id="resp_1"), None)


async def test_a_response_is_kept_unless_the_request_says_no() -> None:
    store = await _store()
    body = b'{"id":"resp_2","object":"response","output":[]}'
    _, stored = await open_stored(_request(store=False), store, owner="a", offload=Offload())
    assert stored is not None
    assert stored.stream_keeper() is None
    await stored.keep(body)
    assert await store.find("resp_2", owner="a") is None
    _, stored = await open_stored(_request(), store, owner="a", offload=Offload())
    assert stored is not None
    await stored.keep(body)
    assert await store.find("resp_2", owner="a") is not None
    await store.close()


async def test_a_response_is_read_and_deleted_by_its_owner() -> None:
    store = await _store()
    assert await answer_view(store, "responses/resp_1", method="GET", owner="a") == BODY
    items = await answer_view(store, "responses/resp_1/input_items", method="GET", owner="a")
    assert json.loads(items or b"")["data"][0]["content"][0]["text"] == "First"
    with pytest.raises(NotFound):
        await answer_view(store, "responses/resp_1", method="GET", owner="b")
    with pytest.raises(BadRequest, match="cancelled"):
        await answer_view(store, "responses/resp_1/cancel", method="POST", owner="a")
    assert await answer_view(store, "responses/resp_1/other", method="GET", owner="a") is None
    deleted = await answer_view(store, "responses/resp_1", method="DELETE", owner="a")
    assert json.loads(deleted or b"")["deleted"] is True
    with pytest.raises(NotFound):
        await answer_view(store, "responses/resp_1", method="GET", owner="a")
    await store.close()
