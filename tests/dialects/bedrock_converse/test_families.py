"""What differs by the maker of a model."""

from __future__ import annotations

import pytest

from modelplex.dialects.bedrock_converse.families import FAMILIES, family_of


@pytest.mark.parametrize(
    ("model", "reasoning", "top_k", "schema"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "thinking", ("top_k",), True),
        ("amazon.nova-2-lite-v1:0", "reasoningConfig", ("inferenceConfig", "topK"), False),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0",
            "reasoningConfig",
            ("inferenceConfig", "topK"),
            False,
        ),
        ("openai.gpt-oss-120b-1:0", "reasoning_effort", (), True),
        ("us.meta.llama4-maverick-17b-instruct-v1:0", "", (), False),
        ("cohere.command-r-plus-v1:0", "", (), False),
        ("us.deepseek.r1-v1:0", "", (), False),
        ("deepseek.v3-v1:0", "", (), True),
        ("mistral.mistral-large-3-675b-instruct", "", (), True),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2", "", (), True),
    ],
)
def test_a_model_has_the_row_of_its_maker(
    model: str, reasoning: str, top_k: tuple[str, ...], schema: bool
) -> None:
    family = family_of(model)
    assert (family.reasoning, family.top_k, family.schema) == (reasoning, top_k, schema)


def test_every_row_names_its_pages() -> None:
    assert all(family.source for family in FAMILIES)
    assert FAMILIES[-1].pattern == ""
