"""docs/reference/dialects.md, whole: its words stand here, its tables are what `verdicts` finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelplex.providers import all_rows
from modelplex.providers.endpoints import way
from tests.matrix.probes import ANSWERS, FORMS, OTHER_FORMS, Form
from tests.matrix.verdicts import Target, answer_verdict, family, verdict

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

Clients ask in the form that they know, providers are asked in theirs. Where the two are the same, the body passes byte for byte: only the model's name, what a service is known
to answer with an error, and `store` of a Responses request, which is false for every provider, are changed. Where they differ it is translated, and what becomes of each part stands here: a table for each form of client, a column for each form of provider that
it can come to.

- **passes**: byte for byte
- **carried**: said in the provider's words, with the same meaning
- **meant anyway**: nothing has to be said, since it is so without it, or since the gateway itself sees to it
- **lowered**: said in weaker words; **clamped**: brought into the provider's range; **renamed**, **moved**: said under another name, in another place; **added to**: said with something
  beside it that the model asks for; **partly**: carried, but for a detail; **dropped**: left out. All of these are named in `x-modelplex-changes` and in the log, or refused with
  `[server] on_loss = "refuse"`
- **refused**: a 400, `unsupported_by_provider`, with `param` naming it, unless another candidate can be told: the answer would be to another question
- **a / b**: it depends on the model

The compatible services are asked in OpenAI's form; what they differ in is in [their quirks](config.md#quirks), and a `reasoning_back` carries earlier reasoning to them. The models asked
for here are {models}.

What a provider sealed or keeps (signed reasoning, a file's id, the id of an answer's audio) goes to that provider alone: see
[conversations with sealed state](../how-to/failover.md#conversations-with-sealed-state). A seal is handed to clients of other forms in an envelope, and taken out of it on its way home.
"""
NOTES = {
    "openai_responses": """\
With [`keep_responses`](config.md#server) the gateway itself serves `previous_response_id` and the id of an item, whoever the provider is: the earlier items are put into the request before it is
read. A tool in a namespace is told as `namespace__tool`, and comes back as it was.

""",
    "ollama_generate": """\
A prompt is a conversation of one turn. With `raw` or `suffix` it is a text to be continued, which is for Ollama alone.

""",
}
ANSWERS_HEAD = """\
## Answers

What a provider may answer, by the form of the client; streamed or not, it is the same. **Not told** is what the form has no words for, and whose loss takes nothing from the answer; where
nothing stands, the form cannot ask for it. Usage is the provider's own count: cached and reasoning tokens stand in its details. Where a provider counts
nothing, the log and the metrics have an estimate that says it is one, without a price.
"""
OTHERS_HEAD = """\
## Completions and embeddings

Anthropic has neither. Vectors come as the client wants them, floats or base64; a text that is too long to be embedded is an error and not cut.
"""
COUNTS = """\
## Counts

`/messages/count_tokens` goes to Anthropic, `:countTokens` to Gemini, `/responses/input_tokens` to OpenAI, as they came. A model of any other provider has its prompt estimated here, and the answer says so with
`x-modelplex-changes: lower=input_tokens`.
"""


def page() -> str:
    """The whole page."""
    models = "; ".join(f"{target.title}: {_listed(target.models)}" for target in TARGETS)
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


def reached(form: Form, targets: Sequence[Target]) -> list[Target]:
    """The providers' forms that a client of this form can come to: some type of provider is asked
    so. Where it is a smaller form of the client's own, that one is meant.
    """
    dialects = {
        way(row, form.endpoint, conversations=conversations)[0]
        for row in all_rows().values()
        for conversations in ("usual", "responses")
    }
    return [
        target._replace(dialect=form.dialect) if family(form.dialect) == target.dialect else target
        for target in targets
        if target.dialect in dialects or family(form.dialect) == target.dialect
    ]


def _listed(models: Sequence[str]) -> str:
    return ", ".join(f"`{model}`" for model in models)


def _table(form: Form, targets: Sequence[Target]) -> str:
    rows = [[probe.says, *(verdict(probe, form, target) for target in targets)] for probe in form.probes]
    return _markdown(["in the request", *(f"to {target.title}" for target in targets)], rows)


def _answers() -> str:
    rows = [[probe.says, *(answer_verdict(probe, form) for form in FORMS)] for probe in ANSWERS]
    return _markdown(["in the answer", *(form.title for form in FORMS)], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    written = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return written.replace(f"| {' | '.join(lines[1])} |", f"|{'---|' * len(head)}")
