"""Anthropic's list of models and token counts."""

import json

import pytest
from anthropic.types import ModelInfo

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.anthropic.listings import read_count, write_count, write_model, write_models


def test_models_are_on_one_page() -> None:
    page = json.loads(write_models({"a": "p", "b": "q"}))
    assert [ModelInfo.model_validate(model).id for model in page["data"]] == ["a", "b"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", False)
    assert json.loads(write_models({}))["first_id"] is None
    assert json.loads(write_model("a")) == page["data"][0]


def test_an_estimate_is_marked() -> None:
    assert json.loads(write_count(7, estimated=False)) == {"input_tokens": 7}
    assert json.loads(write_count(7, estimated=True)) == {"input_tokens": 7, "estimated": True}
    assert read_count(write_count(7, estimated=True)) == 7


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input_tokens":"7"}', b"\xff"])
def test_anything_else_is_no_count(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read_count(body)
