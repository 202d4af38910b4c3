"""Request target and header lines."""

import msgspec
import pytest

from modelplex import __version__
from modelplex.core.request import Endpoint
from modelplex.dialects.endpoints import endpoint_for
from modelplex.http_client import parse_origin
from modelplex.providers import all_specs
from modelplex.providers.request_head import credential, models_target, request_headers, target
from modelplex.providers.specs import ProviderSpec

ROWS = all_specs()


def _target(
    row: ProviderSpec, base_path: str, endpoint: str = "chat/completions", *, version: str | None = None
) -> str:
    return target(
        row, base_path=base_path, endpoint=endpoint, model="m", stream=False, api_version=version
    ).decode()


def _head(
    row: ProviderSpec, key: str | None = "sk-1", *, version: str | None = None, **extra: str
) -> dict[str, str]:
    lines = (
        request_headers(row, extra=extra, api_version=version) + credential(row, key=key, extra=extra)
    ).decode()
    assert lines.endswith("\r\n")
    split = [line.split(": ", 1) for line in lines.removesuffix("\r\n").split("\r\n")]
    assert len({name for name, _ in split}) == len(split), "no header twice"
    return {name: value for name, value in split}  # noqa: C416 - a pair is a list here, and dict() would not say so


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("openai", "/v1/chat/completions"),
        ("anthropic", "/v1/messages"),
        ("ollama", "/api/chat"),
        ("groq", "/openai/v1/chat/completions"),
        ("gemini", "/v1beta/models/m:generateContent"),
        ("gemini-openai", "/v1beta/openai/chat/completions"),
        ("deepseek", "/chat/completions"),
        ("openrouter", "/api/v1/chat/completions"),
        ("fireworks", "/inference/v1/chat/completions"),
        ("cohere", "/compatibility/v1/chat/completions"),
        ("vllm", "/v1/chat/completions"),
        ("zai", "/api/paas/v4/chat/completions"),
    ],
)
def test_chat_goes_to_its_path_below_the_usual_base_url(name: str, url: str) -> None:
    assert _target(ROWS[name], parse_origin(ROWS[name].base_url)[1]) == url


@pytest.mark.parametrize(
    ("name", "base_path", "url"),
    [
        ("anthropic", "", "/v1/messages"),
        ("anthropic", "/v1", "/v1/messages"),
        ("anthropic", "/proxy/anthropic", "/proxy/anthropic/v1/messages"),
        ("ollama", "/api", "/api/chat"),
        ("ollama", "/gpu1", "/gpu1/api/chat"),
        ("vllm", "", "/v1/chat/completions"),
        ("azure", "", "/openai/v1/chat/completions"),
        ("azure", "/openai/v1", "/openai/v1/chat/completions"),
        ("openai", "", "/chat/completions"),
        ("openai", "/any/where", "/any/where/chat/completions"),
    ],
)
def test_a_base_url_may_name_the_root_or_leave_it_out(name: str, base_path: str, url: str) -> None:
    assert _target(ROWS[name], base_path) == url


def test_perplexity_has_no_chat_of_its_own_any_more() -> None:
    """https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/overview"""
    row = ROWS["perplexity"]
    asked: tuple[Endpoint, ...] = ("chat/completions", "messages", "responses")
    for endpoint in asked:
        assert endpoint_for(row.dialect, endpoint, serves=row.serves) == ("openai_responses", "responses")


def test_each_endpoint_has_its_path() -> None:
    assert _target(ROWS["ollama"], "", "completions") == "/api/generate"
    assert _target(ROWS["ollama"], "", "embeddings") == "/api/embed"
    assert _target(ROWS["openai"], "/v1", "audio/speech") == "/v1/audio/speech"
    assert _target(ROWS["anthropic"], "", "messages") == "/v1/messages"
    assert _target(ROWS["perplexity"], "", "embeddings") == "/v1/embeddings"
    assert _target(ROWS["perplexity"], "", "responses") == "/v1/responses"
    assert _target(ROWS["gemini"], "", "embeddings") == "/v1beta/models/m:batchEmbedContents"
    assert _target(ROWS["gemini"], "/v1beta", "count_tokens") == "/v1beta/models/m:countTokens"


def test_a_path_may_hold_the_model_and_differ_for_streams() -> None:
    row = msgspec.structs.replace(
        ROWS["openai"],
        paths={"chat/completions": "/{model}:go", "chat/completions:stream": "/{model}:flow?alt=sse"},
    )
    whole = target(
        row, base_path="/v1", endpoint="chat/completions", model="a/b c", stream=False, api_version=None
    )
    flow = target(
        row, base_path="/v1", endpoint="chat/completions", model="ä?b", stream=True, api_version=None
    )
    assert whole == b"/v1/a%2Fb%20c:go"
    assert flow == b"/v1/%C3%A4%3Fb:flow?alt=sse"


def test_a_version_is_in_the_query_where_the_service_wants_it_there_and_one_is_set() -> None:
    assert _target(ROWS["azure"], "", version="preview") == "/openai/v1/chat/completions?api-version=preview"
    assert _target(ROWS["azure"], "") == "/openai/v1/chat/completions"
    assert _target(ROWS["anthropic"], "", version="2026-10-21") == "/v1/messages"
    assert _target(ROWS["openai"], "/v1", version="x") == "/v1/chat/completions"


def test_nothing_in_a_target_can_end_the_request_line() -> None:
    row = msgspec.structs.replace(ROWS["azure"], paths={"chat/completions": "/{model}"})
    written = target(
        row,
        base_path="/a b",
        endpoint="chat/completions",
        model="x HTTP/1.1\r\nHost: y",
        stream=False,
        api_version="1\r\n&a=b",
    )
    assert not set(written) & set(b" \r\n")
    assert written.endswith(b"?api-version=1%0D%0A%26a%3Db")


@pytest.mark.parametrize(
    ("name", "base_path", "version", "url"),
    [
        ("openai", "/v1", None, "/v1/models"),
        ("ollama", "", None, "/api/tags"),
        ("ollama", "/api", None, "/api/tags"),
        ("anthropic", "", None, "/v1/models?limit=1000"),
        ("anthropic", "/v1", None, "/v1/models?limit=1000"),
        ("azure", "", "preview", "/openai/v1/models?api-version=preview"),
        ("gemini", "", None, "/v1beta/models?pageSize=1000"),
        ("gemini", "/v1beta", None, "/v1beta/models?pageSize=1000"),
        ("lmstudio", "/v1", None, "/v1/models"),
    ],
)
def test_the_list_of_models_is_asked_for_at_its_path(
    name: str, base_path: str, version: str | None, url: str
) -> None:
    assert models_target(ROWS[name], base_path=base_path, api_version=version).decode() == url


@pytest.mark.parametrize(
    ("name", "credential"),
    [
        ("openai", {"authorization": "Bearer sk-1"}),
        ("anthropic", {"x-api-key": "sk-1", "anthropic-version": "2023-06-01"}),
        ("azure", {"api-key": "sk-1"}),
        ("gemini", {"x-goog-api-key": "sk-1"}),
        ("gemini-openai", {"authorization": "Bearer sk-1"}),
        ("ollama", {"authorization": "Bearer sk-1"}),
        ("demo", {}),
    ],
)
def test_one_credential_is_sent_in_the_form_of_the_service(name: str, credential: dict[str, str]) -> None:
    common = {"user-agent": f"modelplex/{__version__}", "accept-encoding": "identity"}
    assert _head(ROWS[name]) == common | credential


def test_no_key_sends_no_credential() -> None:
    assert set(_head(ROWS["ollama"], None)) == {"user-agent", "accept-encoding"}


def test_a_configured_version_is_the_one_that_is_sent() -> None:
    assert _head(ROWS["anthropic"], version="2026-10-21")["anthropic-version"] == "2026-10-21"
    assert "anthropic-version" not in _head(ROWS["openai"], version="x")


def test_configured_headers_win_and_never_make_a_second_credential() -> None:
    extra = {"X-API-Key": "other", "User-Agent": "mine", "x-title": "Team A"}
    lines = _head(ROWS["openai"], **extra)
    assert lines == {
        "user-agent": "mine",
        "accept-encoding": "identity",
        "x-api-key": "other",
        "x-title": "Team A",
    }


@pytest.mark.parametrize(
    ("key", "extra", "named"),
    [
        ("sk\r\nx-evil: 1", {}, "authorization"),
        ("sk\nsecret", {}, "authorization"),
        ("sk-ü", {}, "authorization"),
        ("sk", {"x-a": "1\r\nb: 2"}, "x-a"),
        ("sk", {"x-a": "\0"}, "x-a"),
        ("sk", {"x a": "1"}, "x a"),
        ("sk", {"x-a:": "1"}, "x-a:"),
        ("sk", {"": "1"}, "''"),
        ("sk", {"x\r\n": "1"}, "x"),
    ],
)
def test_what_could_begin_another_header_is_refused_without_telling_the_value(
    key: str, extra: dict[str, str], named: str
) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        _head(ROWS["openai"], key, **extra)
    assert "sk" not in str(refused.value)
    assert "secret" not in str(refused.value)
