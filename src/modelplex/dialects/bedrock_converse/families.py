"""What differs by the maker of a model on Converse, one row each.

Inference parameters beyond the common four, reasoning, cache points and structured output are
the model's own, and a model that does not have them answers 400. What a model has no row for is
not sent and reported as lost; the owner of the gateway may send it with `body` in the config.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

Reasoning = Literal["", "thinking", "reasoningConfig", "reasoning_effort"]
Section = Literal["system", "messages", "tools"]


class ModelFamily(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row. The first whose pattern is found in the name of the model applies.

    pattern       of the name or the ARN, in lower case
    top_k         the path of `top_k` in `additionalModelRequestFields`; () where there is none
    reasoning     the member of `additionalModelRequestFields` that asks for reasoning
    cache         where cache points may stand
    schema        takes `outputConfig.textFormat` and `strict`
    forced_tool   takes a choice of one tool
    citations     takes search results, and documents with citations
    source        the pages of these facts
    """

    pattern: str
    top_k: tuple[str, ...] = ()
    reasoning: Reasoning = ""
    cache: frozenset[Section] = frozenset()
    schema: bool = False
    forced_tool: bool = False
    citations: bool = False
    source: tuple[str, ...] = ()


_GUIDE = "https://docs.aws.amazon.com/bedrock/latest/userguide/"
_CLAUDE = ModelFamily(
    pattern=r"claude",
    top_k=("top_k",),
    reasoning="thinking",
    cache=frozenset({"system", "messages", "tools"}),
    schema=True,
    forced_tool=True,
    citations=True,
    source=(
        f"{_GUIDE}conversation-inference.html",
        f"{_GUIDE}prompt-caching.html",
        f"{_GUIDE}structured-output.html",
    ),
)
_NOVA = ModelFamily(
    pattern=r"amazon\.nova|/nova",
    top_k=("inferenceConfig", "topK"),
    reasoning="reasoningConfig",
    cache=frozenset({"system", "messages"}),
    forced_tool=True,
    source=(
        "https://docs.aws.amazon.com/nova/latest/nova2-userguide/code-library.html",
        "https://docs.aws.amazon.com/nova/latest/nova2-userguide/core-inference.html",
        "https://github.com/danny-avila/LibreChat/issues/13838",
        f"{_GUIDE}model-card-amazon-nova-2-lite.html",
    ),
)
_GPT_OSS = ModelFamily(
    pattern=r"gpt-oss",
    reasoning="reasoning_effort",
    schema=True,
    source=(f"{_GUIDE}structured-output.html", f"{_GUIDE}model-parameters-openai.html"),
)
_NO_SCHEMA = ModelFamily(
    pattern=r"meta\.|llama|cohere\.|ai21\.|titan|deepseek\.r1",
    source=(f"{_GUIDE}structured-output.html",),
)
_ANY = ModelFamily(pattern="", schema=True, source=(f"{_GUIDE}structured-output.html",))
FAMILIES = (_CLAUDE, _NOVA, _GPT_OSS, _NO_SCHEMA, _ANY)
"""Read 2026-12-02. The list of models with structured output is as
https://github.com/langchain-ai/langchain-aws/issues/883 repeats it: open-weight models of many
makers, so that a model without a row is sent a schema.
"""
_patterns = tuple((re.compile(family.pattern), family) for family in FAMILIES)
REMEMBERED = 1024
"""Names whose family is cached."""


@lru_cache(maxsize=REMEMBERED)
def family_of(model: str) -> ModelFamily:
    """The row of a model, by its id, inference profile or ARN."""
    name = model.lower()
    return next(family for pattern, family in _patterns if pattern.search(name))
