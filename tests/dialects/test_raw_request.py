"""The top level of a body, read and written again."""

import json
from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import Attempt, Quirks, RawRequest
from modelplex.dialects.raw_request import FORM, amend_body, price_dimensions, read_form, read_request


def read(body: bytes, dialect: str = "openai_chat", **more: Any) -> RawRequest:
    return read_request(body, endpoint="chat/completions", dialect=dialect, **more)


def attempt(model: str, **quirks: Any) -> Attempt:
    return Attempt(provider="p", model=model, dialect="openai_chat", quirks=Quirks(**quirks))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"),
        (b'{"model":5}', "model"),
        (b'{"model":"m","stream":1}', "stream"),
        (b'{"model":"m","stream":true,"stream_options":5}', "stream_options"),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":1}}', "stream_options"),
        (b"[]", None),
        (b"not JSON", None),
        (b'{"model":"m"', None),
    ],
)
def test_a_wrong_body_is_named_by_its_member(body: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.param == param


@pytest.mark.parametrize(("stream", "expected"), [(b"true", True), (b"false", False), (b"null", False)])
def test_whether_a_response_streams_is_said_by_the_body(stream: bytes, *, expected: bool) -> None:
    assert read(b'{"model":"m","stream":' + stream + b"}").stream is expected
    assert read(b'{"model":"m"}', "ollama").stream is True


def test_the_path_may_have_the_model_and_the_stream() -> None:
    raw = read(b"{}", "gemini", model="g", stream=True)
    assert (raw.model, raw.stream) == ("g", True)


def test_only_what_must_change_changes() -> None:
    body = b'{"big":123456789012345678901234567890,"model":"a", "x":[1.50]}'
    assert amend_body(read(body), attempt("a"))[1] == body
    changed = amend_body(read(body), attempt("b"))[1]
    assert json.loads(changed)["model"] == "b"
    assert b"123456789012345678901234567890" in changed
    assert b"[1.50]" in changed


def test_usage_is_asked_for_where_the_client_did_not() -> None:
    plain = read(b'{"model":"m","stream":true}')
    changes, body, asks_usage = amend_body(plain, attempt("m"))
    assert (changes, asks_usage) == ((), True)
    assert json.loads(body)["stream_options"] == {"include_usage": True}
    assert amend_body(plain, attempt("m", stream_usage=False))[2] is False


def test_a_body_that_repeats_a_member_is_written_anew() -> None:
    body = b'{"model":"m","seed":1,"seed":2}'
    assert amend_body(read(body), attempt("m"))[1] == b'{"model":"m","seed":2}'


def test_half_of_a_surrogate_pair_is_replaced_and_reported() -> None:
    raw = read(b'{"model":"m","user":"a\\ud83d"}')
    assert [(change.op, change.path) for change in raw.mended] == [("lower", "user")]
    with pytest.raises(BadRequest, match="'model'"):
        read(b'{"model":"a\\ud83d"}')


def test_the_model_of_a_form_is_read_and_replaced() -> None:
    kind = f"{FORM}; boundary=b"
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nold\r\n--b--\r\n'
    raw = read_form(form, endpoint="images/edits", dialect="openai_json", content_type=kind)
    assert raw.model == "old"
    assert amend_body(raw, attempt("new"))[1] == form.replace(b"old", b"new")
    assert amend_body(raw, attempt("old"))[1] is form


def test_what_changes_the_price_is_named_as_in_price_lists() -> None:
    body = b'{"model":"m","service_tier":"flex","speed":5}'
    assert price_dimensions(read(body)) == {"service_tier": "flex"}
    assert price_dimensions(read(b'{"serviceTier":"x"}', "gemini", model="g", stream=False)) == {
        "service_tier": "x"
    }
