"""OpenAI's smaller forms: completions, vectors, and the JSON bodies of moderation, ranking,
pictures and speech (docs/reference/isolation-requirements.md#openai-chat-completions).

Above it stands the judge; below it the walk, and what all of OpenAI's forms share.
"""

from __future__ import annotations

from modelplex.dialects.openai_chat.policy import ACCOUNT, ADDRESS, PART, SAMPLING, SERVICES, VOICE
from modelplex.policy.leaves import (
    FLAG,
    FORMAT,
    ID,
    LANGUAGE,
    LEVEL,
    MODEL,
    NUMBER,
    REASONING,
    SIZE,
    TEXT,
    TEXTS,
    PatternRule,
    TokenListRule,
)
from modelplex.policy.tools import all_by, of
from modelplex.policy.walk import (
    UNKNOWN_PART,
    ExceptRule,
    ListRule,
    ObjectRule,
    RefuseRule,
    StripRule,
    UnionRule,
    ValueRule,
    VariantRule,
    inline,
    inline_bytes,
    known_model,
    unknown_form,
)

_STORED = RefuseRule("stored-file")
_NO_STORE: dict[str, ValueRule] = {"store": ExceptRule(False, StripRule("store"))}
COMPLETIONS = ObjectRule(
    of(
        SERVICES,
        ACCOUNT,
        SAMPLING,
        _NO_STORE,
        {
            "prompt": TokenListRule(unknown_form),
            "suffix": TEXT,
            "echo": FLAG,
            "grammar": TEXT,
            "min_tokens": NUMBER,
        },
    )
)

# --- text and pictures ----------------------------------------------------------------------------

_ENTRY: dict[str, ValueRule] = {
    "text": TEXT,
    "image": inline_bytes,
    "image_url": ADDRESS,
    "content": ListRule(PART),
}
"""One entry of what is to be embedded or ranked, where a service takes pictures (SGLang,
OpenRouter, Jina). Addresses in it would be fetched by the model's own server.
"""
_INPUT = TokenListRule(VariantRule(PART.kinds, absent=ObjectRule(_ENTRY, otherwise=UNKNOWN_PART)))
_RANKED = UnionRule(text=TEXT, members=ObjectRule({**_ENTRY, "title": TEXT, "id": ID}))
EMBEDDINGS = ObjectRule(
    of(
        SERVICES,
        ACCOUNT,
        {
            "model": MODEL,
            "input": _INPUT,
            **all_by("dimensions output_dimension", NUMBER),
            **all_by("encoding_format output_dtype", FORMAT),
            "input_type": LEVEL,
            "task": PatternRule(r"(?=.{1,32}\Z)[a-z]+(?:[._-][a-z]+){0,3}"),
            **all_by("truncate truncation", PatternRule(r"[A-Za-z]{1,16}", bool)),
        },
    )
)
_PICTURE = UnionRule(
    text=inline_bytes,
    members=ObjectRule({"image_url": inline, "url": inline, "file_id": _STORED, "b64_json": inline_bytes}),
)
_PICTURES = UnionRule(text=inline_bytes, members=_PICTURE, items=ListRule(_PICTURE))
_PARTS = UnionRule(text=TEXT, items=ListRule(UnionRule(text=TEXT, members=PART)))
JSON = ObjectRule(
    of(
        SERVICES,
        ACCOUNT,
        {
            "model": MODEL,
            "query": _RANKED,
            "documents": ListRule(_RANKED),
            "rank_fields": TEXTS,
            "input": _PARTS,
            **all_by("prompt negative_prompt instructions", TEXT),
            **all_by(
                "top_n top_k max_chunks_per_doc max_tokens_per_doc n frame_count frame_duration_ms output_compression partial_images seed "
                "speed sample_rate",
                NUMBER,
            ),
            **all_by("return_documents stream", FLAG),
            "truncation": PatternRule(r"[A-Za-z]{1,16}", bool),
            **all_by("quality style background complexity input_fidelity stream_format", LEVEL),
            "size": SIZE,
            **all_by("output_format response_format", UnionRule(text=FORMAT)),
            "language": LANGUAGE,
            "moderation": UnionRule(
                text=LEVEL, members=StripRule("second-model", ObjectRule({"model": known_model}))
            ),
            "svg": StripRule("second-model", ObjectRule({"model": known_model, "reasoning": REASONING})),
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
