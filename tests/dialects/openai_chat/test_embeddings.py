"""Embeddings: order, dimensions and values, between floats and base64."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from modelplex.core.errors import BadRequest, RateLimited, UpstreamBroken
from modelplex.core.events import EmbeddingResponse, Usage
from modelplex.core.request import EmbeddingRequest
from modelplex.dialects.openai_chat import embeddings
from modelplex.dialects.openai_chat.prompts import MAX_INPUTS
from tests.dialects.openai_chat.peer import ATTEMPT, attempt_with, make_ask

floats = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8)


def read(**body: Any) -> EmbeddingRequest:
    return embeddings.read_embedding(make_ask({"model": "m", **body}, endpoint="embeddings"))


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


@given(st.lists(floats, min_size=1, max_size=4))
@settings(deadline=None)
def test_vectors_keep_order_dimensions_and_values_between_both_encodings(vectors: list[list[float]]) -> None:
    rows = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    plain = json.dumps(
        {
            "object": "list",
            "data": rows[::-1],
            "model": "up",
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }
    )
    embedded = embeddings.read_embedded(plain.encode())
    as_base64 = embeddings.write_embedded(embedded, read(input="a", encoding_format="base64"), "m")
    sent = json.loads(as_base64)
    assert [row["embedding"] for row in sent["data"]] == [packed(vector) for vector in vectors]
    assert [row["index"] for row in sent["data"]] == list(range(len(vectors)))
    again = embeddings.write_embedded(embeddings.read_embedded(as_base64), read(input="a"), "m")
    answer = CreateEmbeddingResponse.model_validate(json.loads(again))
    assert [row.embedding for row in answer.data] == vectors
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("up", 3, 3)


@pytest.mark.parametrize("one", ["a", [1]], ids=["texts", "token ids"])
def test_more_inputs_than_any_provider_takes_are_refused_by_their_number(one: object) -> None:
    assert len(read(input=[one] * MAX_INPUTS).inputs) == MAX_INPUTS
    with pytest.raises(BadRequest, match=f"'input' has {MAX_INPUTS + 1} entries, and at most {MAX_INPUTS}"):
        read(input=[one] * (MAX_INPUTS + 1))
    assert read(input=[1] * (MAX_INPUTS + 1)).inputs == ((1,) * (MAX_INPUTS + 1),)


def test_a_request_is_read_and_written_for_a_provider() -> None:
    asked = read(input=["a", "b"], dimensions=8, encoding_format="base64", user="u")
    assert asked.inputs == ("a", "b")
    sent = json.loads(embeddings.write_embedding(asked, ATTEMPT).body)
    assert sent == {
        "model": "m-up",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 8,
        "user": "u",
    }
    written = embeddings.write_embedding(asked, attempt_with(refuses=("dimensions",)))
    assert "dimensions" not in json.loads(written.body)
    assert [change.path for change in written.changes] == ["dimensions"]


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "input"), ({"input": []}, "input"), ({"input": "a", "encoding_format": "int8"}, "encoding_format")],
)
def test_a_wrong_request_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**body)
    assert caught.value.param == param


def test_an_answer_that_passes_is_seen() -> None:
    body = (
        b'{"data":[{"index":0,"embedding":"AAAA"}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}'
    )
    seen = embeddings.observe(body)
    assert seen.error is None
    assert seen.usage is not None
    assert (seen.model, seen.usage.input, seen.usage.output) == ("m", 3, 0)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"data":[]}', b'{"data":[{"index":0,"emb'])
def test_what_holds_no_vectors_is_no_answer(body: bytes) -> None:
    assert isinstance(embeddings.observe(body).error, UpstreamBroken)
    with pytest.raises(UpstreamBroken):
        embeddings.read_embedded(body)


def test_an_error_inside_a_200_is_an_error() -> None:
    with pytest.raises(RateLimited):
        embeddings.read_embedded(b'{"error":{"message":"slow","code":429}}')


def test_base64_of_half_a_float_is_no_vector() -> None:
    for text in ("AAA=", "!!!"):
        with pytest.raises(UpstreamBroken):
            embeddings.write_embedded(EmbeddingResponse("m", (text,), Usage()), read(input="a"), "m")
