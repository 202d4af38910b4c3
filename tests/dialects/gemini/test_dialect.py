"""Models, vectors and counts of Gemini providers."""

import json

import pytest

from modelplex.core.errors import ModelplexError, RateLimited, UpstreamBroken
from modelplex.core.events import ListedModel
from modelplex.dialects.gemini import dialect


def test_models_are_those_that_can_be_of_use() -> None:
    body = {
        "models": [
            {"name": "models/gemini-3-pro", "supportedGenerationMethods": ["generateContent", "countTokens"]},
            {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]},
            {"name": "models/veo-3", "supportedGenerationMethods": ["predictLongRunning"]},
            {"name": "models/new"},
        ]
    }
    found = dialect.read_models(json.dumps(body).encode())
    assert found == [
        ListedModel("models/gemini-3-pro"),
        ListedModel("models/gemini-embedding-001"),
        ListedModel("models/new"),
    ]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"models":[{}]}'])
def test_what_is_no_list_of_models_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        dialect.read_models(body)


def test_vectors_are_read_in_order_from_both_forms() -> None:
    batch = b'{"embeddings":[{"values":[0.5,-1]},{"values":[2]}],"usageMetadata":{"promptTokenCount":6}}'
    found = dialect.read_embedded(batch)
    assert found.vectors == ((0.5, -1.0), (2.0,))
    assert (found.usage.input, found.usage.estimated) == (6, False)
    single = dialect.read_embedded(b'{"embedding":{"values":[1]}}')
    assert (single.vectors, single.usage.estimated) == (((1.0,),), True)
    assert dialect.observe_embeddings(batch).error is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{}", UpstreamBroken),
        (b"<html>", UpstreamBroken),
        (b'{"embedding":{"values":["x"]}}', UpstreamBroken),
        (b'{"error":{"code":429,"message":"Slow","status":"RESOURCE_EXHAUSTED"}}', RateLimited),
    ],
)
def test_what_holds_no_vectors_is_refused(body: bytes, error: type[ModelplexError]) -> None:
    with pytest.raises(error):
        dialect.read_embedded(body)


def test_a_count_is_read() -> None:
    assert dialect.read_count(b'{"totalTokens":31,"promptTokensDetails":[]}') == 31
    with pytest.raises(UpstreamBroken):
        dialect.read_count(b"{}")
