"""OpenAI's smaller forms: completions, vectors, and the JSON bodies of moderation, ranking, pictures and speech (isolation.md 5.3).

Above it stands the judge; below it the walk, and what all of OpenAI's forms share.
"""

from __future__ import annotations

from modelplex.policy._chat import ACCOUNT, PART, SAMPLING, SERVICES
from modelplex.policy._tools import of, passing
from modelplex.policy._walk import (
    Each,
    Forms,
    Gone,
    Members,
    Never,
    Node,
    Unless,
    inline,
    inline_bytes,
    known_model,
)

_STORED = Never("stored-file")
_NO_STORE: dict[str, Node] = {"store": Unless(False, Gone("store"))}
COMPLETIONS = Members(
    of(SERVICES, ACCOUNT, SAMPLING, _NO_STORE, passing("prompt suffix echo grammar min_tokens"))
)
_INPUT = Forms(text=None, items=None)
EMBEDDINGS = Members(
    of(
        SERVICES,
        ACCOUNT,
        passing(
            "model dimensions encoding_format input_type output_dimension output_dtype truncate truncation task"
        ),
        {"input": _INPUT},
    )
)
_DOCUMENT = Forms(text=None, members=Members(passing("text title id")))
_PICTURE = Forms(
    text=inline_bytes,
    members=Members({"image_url": inline, "url": inline, "file_id": _STORED, "b64_json": None}),
)
_PICTURES = Forms(text=inline_bytes, members=_PICTURE, items=Each(_PICTURE))
_PARTS = Forms(text=None, items=Each(Forms(text=None, members=PART)))
JSON = Members(
    of(
        SERVICES,
        ACCOUNT,
        passing(
            "model query top_n top_k return_documents max_chunks_per_doc max_tokens_per_doc rank_fields truncation "
            "n size quality style background complexity frame_count frame_duration_ms output_format output_compression "
            "partial_images response_format input_fidelity seed negative_prompt instructions speed stream_format stream "
            "sample_rate language moderation"
        ),
        {
            "input": _PARTS,
            "prompt": Forms(text=None),
            "documents": Each(_DOCUMENT),
            "svg": Gone("second-model", Members({"model": known_model}, otherwise=None)),
            "image": _PICTURES,
            "images": _PICTURES,
            "mask": _PICTURES,
            "voice": Forms(text=None, members=Members({"id": _STORED})),
        },
    )
)
"""One table for them all: no member of theirs means two things, but `moderation`, which is a level where pictures are asked for."""
