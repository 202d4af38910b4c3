"""docs/reference/dialects.md is what the code does: each cell of it was found by sending a request
that way.
"""

import pytest
from msgspec.structs import replace

from modelplex.core.errors import BadRequest
from modelplex.core.request import Attempt, ChatRequest, ProviderRequest, Sampling
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.openai_responses.compaction import read_compaction
from modelplex.dialects.registry import DIALECTS, provider_dialect
from modelplex.providers import all_specs
from tests.dialects.sides import all_dialects
from tests.matrix.betas import BETAS_PAGE, betas_page
from tests.matrix.members import MEMBERS_PAGE, members_page
from tests.matrix.page import PAGE, SMALLER_TARGETS, TARGETS, markdown, page, reached
from tests.matrix.probes import ANSWERS, CHAT, FORMS, OTHER_FORMS, Probe
from tests.matrix.providers import PROVIDERS_PAGE, UNSENT, providers_page
from tests.matrix.verdicts import CARRIED, MEANT, UNTOLD, answer_verdict, verdict

pytestmark = pytest.mark.docs


def test_the_page_says_what_the_code_does() -> None:
    assert PAGE.read_text() == page(), "run `make matrix`"


def test_the_page_of_clients_says_what_becomes_of_each_member_of_the_newest() -> None:
    """A new release of a client changes the page: its names are in the difference."""
    assert MEMBERS_PAGE.read_text() == members_page(TARGETS, reached, markdown), "run `make matrix`"


def test_the_page_of_betas_says_what_was_decided_for_each() -> None:
    assert BETAS_PAGE.read_text() == betas_page(markdown), "run `make matrix`"


def test_the_page_of_providers_says_what_was_read_of_each() -> None:
    assert PROVIDERS_PAGE.read_text() == providers_page(markdown), "run `make matrix`"
    asked = [row for name, row in all_specs().items() if name not in UNSENT]
    assert [row.name for row in asked if not (row.docs and row.read and row.note)] == []
    assert [row.name for row in asked if bool(row.quirks.refuses) != bool(row.refusals)] == []


def test_every_form_of_client_and_provider_is_on_the_page() -> None:
    # /responses/compact has the body of /responses.
    assert {form.dialect for form in FORMS} == {
        name
        for name, dialect in all_dialects().items()
        if dialect.client and not dialect.reframe and dialect.client.read_call is not read_compaction
    }
    reachable = {target.dialect for form in FORMS for target in reached(form, TARGETS)}
    assert {name for name, dialect in all_dialects().items() if dialect.provider} <= reachable
    assert all(reached(form, SMALLER_TARGETS) for form in OTHER_FORMS)


def test_what_a_client_is_not_told_is_which_stop_sequence_ended_an_answer() -> None:
    untold = {probe.says for probe in ANSWERS for form in FORMS if answer_verdict(probe, form) == UNTOLD}
    assert untold == {"ended by a stop sequence, and which"}


def test_a_writer_that_loses_something_without_a_word_shows_on_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgetful(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
        return ollama.write_call(replace(call, sampling=Sampling()), attempt)

    seed = next(probe for probe in CHAT.probes if probe.says == "`seed`")
    at_ollama = next(target for target in TARGETS if target.dialect == "ollama")
    assert verdict(seed, CHAT, at_ollama) == CARRIED
    provider = replace(provider_dialect("ollama"), write_call=forgetful)
    monkeypatch.setitem(DIALECTS, "ollama", replace(ollama.OLLAMA, provider=provider))
    assert verdict(seed, CHAT, at_ollama) == MEANT


def test_a_probe_that_is_no_request_is_not_taken_for_one_that_is_refused() -> None:
    with pytest.raises(BadRequest):
        verdict(Probe("nonsense", {"messages": 1}), CHAT, TARGETS[0]._replace(dialect="ollama"))
