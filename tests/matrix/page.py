"""docs/reference/dialects.md, whole: its words stand here, its tables are what `verdicts` finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelplex.core.request import Endpoint
from modelplex.dialects.endpoints import endpoint_for
from modelplex.dialects.registry import FORMS as DIALECT_FORMS
from modelplex.providers import all_specs
from tests.matrix.probes import ANSWERS, FORMS, OTHER_FORMS, Form
from tests.matrix.verdicts import Target, answer_verdict, verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "dialects.md"

TARGETS = (
    Target("OpenAI chat", "openai", "openai_chat", ("gpt-4o", "gpt-5.1")),
    Target("Responses", "openai", "openai_responses", ("gpt-4o", "gpt-5.1")),
    Target(
        "Messages",
        "anthropic",
        "anthropic_messages",
        ("claude-sonnet-4-5", "claude-opus-5", "claude-3-5-haiku"),
    ),
    Target("Gemini", "gemini", "gemini", ("gemini-2.5-flash", "gemini-3-pro")),
    Target("Ollama", "ollama", "ollama", ("llama3.2",)),
    Target(
        "Converse",
        "bedrock-converse",
        "bedrock_converse",
        ("amazon.nova-2-lite-v1:0", "meta.llama4-maverick-17b-instruct-v1:0"),
    ),
)
SMALLER_TARGETS = (
    Target("OpenAI completions", "openai", "openai_completions", ("gpt-3.5-turbo-instruct",)),
    Target("Ollama", "ollama", "ollama_generate", ("llama3.2",)),
    Target("OpenAI embeddings", "openai", "openai_embeddings", ("text-embedding-3-small",)),
    Target("Gemini", "gemini", "gemini_embed", ("gemini-embedding-001",)),
    Target("Ollama", "ollama", "ollama_embed", ("nomic-embed-text",)),
)

HEAD = """\
<!-- Written by `make matrix`, which runs the code. A test compares. -->

# Dialects

Each client speaks its dialect, and each provider is called in its own. Where the two are the same, the body passes byte
for byte, except the model's name, what a service is known to answer with an error, and `store` of a Responses request,
which is false for every provider. Where they differ the request is translated. This page shows what becomes of each
part: a table for each client dialect, with a column for each provider dialect.

- **passes**: byte for byte
- **carried**: written in the provider's dialect, with the same meaning
- **meant anyway**: nothing has to be written, because it is the default, or because the gateway does it
- **lowered**: written in a weaker form; **clamped**: brought into the provider's range; **renamed**, **moved**: written
  under another name, in another place; **added to**: written with something that the model needs; **partly**: carried
  except for a detail; **dropped**: left out. All of these stand in `x-modelplex-changes` and in the log, or are refused
  with `[server] on_loss = "refuse"`
- **refused**: a 400, `unsupported_by_provider`, with `param` naming it, unless another candidate can express it
- **a / b**: it depends on the model

OpenAI-compatible services are called in OpenAI's dialect; their differences are [quirks](config.md#quirks), and
`reasoning_back` sends earlier reasoning to them. The rules are on the page [Translation](translation.md). The models
of these tables:

{models}

Opaque state and stored objects (signed reasoning, a file's id, the id of an audio response) go to their origin alone:
see [conversations with opaque state](../how-to/failover.md#conversations-with-opaque-state). A client of another
dialect gets opaque state in an envelope, which is removed on the way back.
"""
NOTES = {
    "openai_responses": """\
With [`keep_responses`](config.md#server) the gateway itself serves `previous_response_id` and item ids for every
provider: the earlier items are put into the request before it is parsed. A tool in a namespace is written as
`namespace__tool`, and restored in the response.

""",
    "ollama_generate": """\
A prompt is a conversation of one turn. With `raw` or `suffix` it is a text to be continued, for Ollama only.

""",
}
ANSWERS_HEAD = """\
## Answers

What a provider may send, by the client's dialect, streamed or not. **Not told** is what the dialect cannot express and
whose loss takes nothing from the response. An empty cell means that the dialect cannot request it. Usage is the
provider's own count, with cached and reasoning tokens in its details. Where a provider counts nothing, the log and the
metrics have a marked estimate without a price.
"""
OTHERS_HEAD = """\
## Completions and embeddings

Anthropic has neither. Vectors are floats or base64, as the client requests; a text that is too long is an error, and is
not cut.
"""
COUNTS = """\
## Counts

`/messages/count_tokens` goes to Anthropic, `:countTokens` to Gemini, `/responses/input_tokens` to OpenAI, in
passthrough. For a model of another provider the prompt is estimated, with
`x-modelplex-changes: lower=input_tokens`.
"""


def page() -> str:
    """The whole page."""
    models = "\n".join(f"- {target.title}: {_listed(target.models)}" for target in TARGETS)
    sections = [HEAD.format(models=models)]
    sections += [
        f"## {form.title}\n\n{NOTES.get(form.dialect, '')}{_table(form, reached(form, TARGETS))}"
        for form in FORMS
    ]
    sections.append(f"{ANSWERS_HEAD}\n{_answers()}")
    sections.append(OTHERS_HEAD)
    sections += [
        f"### {form.title}\n\n{_table(form, reached(form, SMALLER_TARGETS))}" for form in OTHER_FORMS
    ]
    return "\n".join([*sections, COUNTS])


_PREFERRED: tuple[Endpoint | None, ...] = (None, "responses")


def reached(form: Form, targets: Sequence[Target]) -> list[Target]:
    """The providers' forms that a client of this form can come to: some type of provider is asked
    so. Where it is a smaller form of the client's own, that one is meant.
    """
    dialects = {
        endpoint_for(row.dialect, form.endpoint, serves=row.serves, prefers=prefers)[0]
        for row in all_specs().values()
        for prefers in _PREFERRED
    }
    return [
        target._replace(dialect=form.dialect)
        if DIALECT_FORMS[form.dialect].family.name == target.dialect
        else target
        for target in targets
        if target.dialect in dialects or DIALECT_FORMS[form.dialect].family.name == target.dialect
    ]


def _listed(models: Sequence[str]) -> str:
    return ", ".join(f"`{model}`" for model in models)


def _table(form: Form, targets: Sequence[Target]) -> str:
    rows = [[probe.says, *(verdict(probe, form, target) for target in targets)] for probe in form.probes]
    return markdown(["in the request", *(f"to {target.title}" for target in targets)], rows)


def _answers() -> str:
    rows = [[probe.says, *(answer_verdict(probe, form) for form in FORMS)] for probe in ANSWERS]
    return markdown(["in the answer", *(form.title for form in FORMS)], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    written = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return written.replace(f"| {' | '.join(lines[1])} |", f"|{'---|' * len(head)}")
