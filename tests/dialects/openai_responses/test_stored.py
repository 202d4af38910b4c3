"""What the response store reads of a stream, a response and an item."""

import json

import msgspec
import pytest

from modelplex.dialects.openai_responses.stored import final_response, read_reference, response_id, with_items
from modelplex.dialects.raw_request import read_request


def event(type_: str, **more: object) -> bytes:
    data = json.dumps({"type": type_, **more})
    return f"event: {type_}\ndata: {data}\n\n".encode()


@pytest.mark.parametrize("end", ["response.completed", "response.incomplete"])
def test_the_response_object_is_that_of_the_last_event(end: str) -> None:
    created = event("response.created", response={"id": "resp_1", "output": []})
    assert final_response(created) is None
    found = final_response(created + event(end, response={"id": "resp_1", "output": [1]}))
    assert found is not None
    assert json.loads(found) == {"id": "resp_1", "output": [1]}


@pytest.mark.parametrize(
    "events",
    [
        event("response.failed", response={"id": "resp_1"}),
        event("response.output_text.delta", delta="response.completed"),
        event("response.completed"),
        b"data: response.completed {\n\n",
        b"",
    ],
)
def test_no_other_event_has_one(events: bytes) -> None:
    assert final_response(events) is None


@pytest.mark.parametrize(
    ("body", "id_"), [(b'{"id":"resp_1"}', "resp_1"), (b"{}", ""), (b"{", ""), (b'{"id":7}', "")]
)
def test_a_response_has_an_id_or_none(body: bytes, id_: str) -> None:
    assert response_id(body) == id_


@pytest.mark.parametrize(
    ("item", "id_"),
    [
        ({"type": "item_reference", "id": "x"}, "x"),
        ({"type": "item_reference"}, None),
        ({"type": "message", "id": "x"}, None),
        ([], None),
    ],
)
def test_only_a_reference_names_an_item(item: object, id_: str | None) -> None:
    assert read_reference(msgspec.Raw(json.dumps(item).encode())) == id_


def test_a_request_gets_other_items_and_keeps_the_rest() -> None:
    body = json.dumps({"model": "m", "input": "Hi", "temperature": 0.50}).encode()
    asked = read_request(body, endpoint="responses", dialect="openai_responses")
    changed = with_items(asked, [msgspec.Raw(b'{"type":"message"}')])
    assert json.loads(changed.body) == {"model": "m", "input": [{"type": "message"}], "temperature": 0.5}
    assert bytes(changed.fields["input"]) == b'[{"type":"message"}]'
    assert bytes(asked.fields["input"]) == b'"Hi"'
