"""Rules of the sealed policy for OpenAI's other endpoints: embeddings, and the JSON bodies of
moderations, reranking, images and speech
(docs/reference/isolation-requirements.md#openai-chat-completions).
"""

from __future__ import annotations

from modelplex.dialects.core.fields import rules_of
from modelplex.dialects.openai_chat.fields import ACCOUNT, SERVICES
from modelplex.dialects.openai_chat.policy import ADDRESS, PART, VOICE
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    FLAG,
    FORMAT,
    ID,
    KEYWORD,
    LANGUAGE,
    MODEL,
    NUMBER,
    REASONING,
    SIZE,
    TEXT,
    TEXTS,
    PatternRule,
    TokenListRule,
)
from modelplex.policy.tools import each_field, merge
from modelplex.policy.value_rules import (
    INLINE_BYTES,
    INLINE_URL,
    PERMITTED_MODEL,
    UNKNOWN_PART,
    RefuseRule,
    StripRule,
)
from modelplex.policy.walk import ValueRule

_STORED = RefuseRule("stored-file")
_SHARED = {**rules_of(SERVICES), **rules_of(ACCOUNT)}

# --- text and pictures ----------------------------------------------------------------------------

_ENTRY: dict[str, ValueRule] = {
    "text": TEXT,
    "image": INLINE_BYTES,
    "image_url": ADDRESS,
    "content": ListRule(PART),
}
"""One entry of what is to be embedded or ranked, where a service takes pictures (SGLang,
OpenRouter, Jina). Addresses in it would be fetched by the model's own server.
"""
_INPUT = TokenListRule(VariantRule(PART.variants, absent=ObjectRule(_ENTRY, default=UNKNOWN_PART)))
_RANKED = UnionRule(text=TEXT, members=ObjectRule({**_ENTRY, "title": TEXT, "id": ID}))
EMBEDDINGS = ObjectRule(
    merge(
        _SHARED,
        {
            "model": MODEL,
            "input": _INPUT,
            **each_field("dimensions output_dimension", NUMBER),
            **each_field("encoding_format output_dtype", FORMAT),
            "input_type": KEYWORD,
            "task": PatternRule(r"(?=.{1,32}\Z)[a-z]+(?:[._-][a-z]+){0,3}"),
            **each_field("truncate truncation", PatternRule(r"[A-Za-z]{1,16}", bool)),
        },
    )
)
_PICTURE = UnionRule(
    text=INLINE_BYTES,
    members=ObjectRule(
        {"image_url": INLINE_URL, "url": INLINE_URL, "file_id": _STORED, "b64_json": INLINE_BYTES}
    ),
)
_PICTURES = UnionRule(text=INLINE_BYTES, members=_PICTURE, items=ListRule(_PICTURE))
_PARTS = UnionRule(text=TEXT, items=ListRule(UnionRule(text=TEXT, members=PART)))
JSON = ObjectRule(
    merge(
        _SHARED,
        {
            "model": MODEL,
            "query": _RANKED,
            "documents": ListRule(_RANKED),
            "rank_fields": TEXTS,
            "input": _PARTS,
            **each_field("prompt negative_prompt instructions", TEXT),
            **each_field(
                "top_n top_k max_chunks_per_doc max_tokens_per_doc n frame_count frame_duration_ms output_compression partial_images seed "
                "speed sample_rate",
                NUMBER,
            ),
            **each_field("return_documents stream", FLAG),
            "truncation": PatternRule(r"[A-Za-z]{1,16}", bool),
            **each_field("quality style background complexity input_fidelity stream_format", KEYWORD),
            "size": SIZE,
            **each_field("output_format response_format", UnionRule(text=FORMAT)),
            "language": LANGUAGE,
            "moderation": UnionRule(
                text=KEYWORD, members=StripRule("second-model", ObjectRule({"model": PERMITTED_MODEL}))
            ),
            "svg": StripRule("second-model", ObjectRule({"model": PERMITTED_MODEL, "reasoning": REASONING})),
            "image": _PICTURES,
            "images": _PICTURES,
            "mask": _PICTURES,
            "voice": VOICE,
        },
    )
)
"""One table for them all: no member of theirs means two things, but `moderation`, which is a level
where pictures are asked for.
"""
