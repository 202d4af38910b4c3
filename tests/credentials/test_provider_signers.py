"""Providers behind short-lived credentials, from the config to the wire: each form of a cloud with
the official client in front, and a scripted cloud that checks what it gets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from modelplex.config import ConfigError, parse, provider_types
from tests.cloud_clients import CONTENT, MESSAGE, ask_anthropic, ask_gemini, ask_openai
from tests.credentials.clouds import Reply, cloud, form
from tests.credentials.oracles import aws_signature
from tests.gateways import gateway
from tests.upstreams import Scripted, Seen, chat_answer


def config(service: Scripted, kind: str, path: str, **more: Any) -> str:
    rows = "".join(f"{name} = {value}\n" for name, value in more.items())
    return f'[[providers]]\nname = "up"\ntype = "{kind}"\nbase_url = "{service.url}{path}"\nmodels = ["m"]\n{rows}'


def signed_by_aws(body: dict[str, Any]) -> Callable[[Seen], Reply]:
    def reply(seen: Seen) -> Reply:
        if seen.headers.get("authorization") != aws_signature(
            seen, "AKID", "aws-secret-key", None, service="bedrock"
        ):
            return 403, {"message": "The request signature we calculated does not match."}
        return 200, body

    return reply


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret-key")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


@pytest.mark.usefixtures("aws_keys")
async def test_bedrock_checks_the_signature_of_a_chat_request(tmp_path: Path) -> None:
    async with cloud(signed_by_aws(chat_answer())) as service:
        text = config(service, "bedrock", "/openai", region='"us-east-1"', auth='{ type = "aws" }')
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_openai(gw)
    (seen,) = service.seen
    assert seen.target == "/openai/v1/chat/completions"


@pytest.mark.usefixtures("aws_keys")
async def test_bedrock_checks_the_signature_of_a_message(tmp_path: Path) -> None:
    async with cloud(signed_by_aws(MESSAGE)) as service:
        text = config(
            service, "bedrock-anthropic", "/anthropic", region='"us-east-1"', auth='{ type = "aws" }'
        )
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_anthropic(gw) == "Hello"
    (seen,) = service.seen
    assert seen.target == "/anthropic/v1/messages"


async def test_bedrock_takes_a_key_of_its_own(tmp_path: Path) -> None:
    async with cloud(lambda _: (200, chat_answer())) as service:
        text = config(service, "bedrock", "/openai", api_key='"bedrock-api-key"')
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_openai(gw)
    assert service.seen[0].headers["authorization"] == "Bearer bedrock-api-key"


async def test_vertex_is_sent_its_own_form_of_each_body_with_a_key_too(tmp_path: Path) -> None:
    """The head of a request with a key is kept, the form of its body is not."""
    async with cloud(lambda _: (200, MESSAGE)) as service:
        text = config(service, "vertex-anthropic", "", api_key='"k"')
        async with gateway(text, folder=tmp_path) as gw:
            for _ in range(2):
                assert await ask_anthropic(gw) == "Hello"
    assert ["model" in seen.json for seen in service.seen] == [False, False]
    assert [seen.json["anthropic_version"] for seen in service.seen] == ["vertex-2023-10-16"] * 2


def google_account(folder: Path, service: Scripted) -> str:
    file = folder / "user.json"
    file.write_text(
        json.dumps({"type": "authorized_user", "refresh_token": "r", "token_uri": f"{service.url}/token"})
    )
    return f'{{ type = "gcp", credentials_file = "{file}" }}'


def vertex(body: dict[str, Any]) -> Callable[[Seen], Reply]:
    def reply(seen: Seen) -> Reply:
        if seen.target == "/token":
            return 200, {"access_token": "google-token", "expires_in": 3600}
        if seen.headers.get("authorization") != "Bearer google-token":
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}}
        return 200, body

    return reply


PLACE = "/v1/projects/p/locations/l/publishers"


async def test_vertex_serves_gemini(tmp_path: Path) -> None:
    async with cloud(vertex(CONTENT)) as service:
        text = config(service, "vertex", f"{PLACE}/google", auth=google_account(tmp_path, service))
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_gemini(gw) == "Hello"
            assert await ask_openai(gw) == "Hello"
    assert [each.target for each in service.seen] == [
        "/token",
        f"{PLACE}/google/models/m:generateContent",
        f"{PLACE}/google/models/m:generateContent",
    ]


async def test_vertex_serves_claude_by_raw_predict(tmp_path: Path) -> None:
    async with cloud(vertex(MESSAGE)) as service:
        text = config(
            service, "vertex-anthropic", f"{PLACE}/anthropic", auth=google_account(tmp_path, service)
        )
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_anthropic(gw) == "Hello"
            assert await ask_openai(gw) == "Hello"
    for seen in service.seen[1:]:
        assert seen.target == f"{PLACE}/anthropic/models/m:rawPredict"
        assert "model" not in seen.json
        assert seen.json["anthropic_version"] == "vertex-2023-10-16"


async def test_vertex_serves_openais_form(tmp_path: Path) -> None:
    place = "/v1beta1/projects/p/locations/l/endpoints/openapi"
    async with cloud(vertex(chat_answer())) as service:
        text = config(service, "vertex-openai", place, auth=google_account(tmp_path, service))
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_openai(gw)
    assert service.seen[1].target == f"{place}/chat/completions"


@pytest.mark.parametrize(
    ("kind", "path", "ask", "body"),
    [
        ("azure", "", ask_openai, chat_answer()),
        ("azure-anthropic", "/anthropic", ask_anthropic, MESSAGE),
    ],
)
async def test_azure_takes_a_token_of_entra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, path: str, ask: Any, body: dict[str, Any]
) -> None:
    def reply(seen: Seen) -> Reply:
        if seen.target == "/t/oauth2/v2.0/token":
            assert form(seen)["scope"] == "https://cognitiveservices.azure.com/.default"
            return 200, {"access_token": "entra-token", "expires_in": 3600}
        assert "api-key" not in seen.headers
        return (200, body) if seen.headers["authorization"] == "Bearer entra-token" else (401, {})

    async with cloud(reply) as service:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", service.url)
        auth = '{ type = "entra", tenant = "t", client_id = "app", client_secret = "entra-secret" }'
        async with gateway(config(service, kind, path, auth=auth), folder=tmp_path) as gw:
            assert await ask(gw)
        log = (tmp_path / "log.json").read_text()
    assert "entra-secret" not in log
    assert "entra-token" not in log


async def test_a_refused_token_is_fetched_anew_and_the_request_sent_again(tmp_path: Path) -> None:
    """As when a key is revoked before its end."""
    tokens = iter(["revoked", "fresh"])

    def reply(seen: Seen) -> Reply:
        if seen.target == "/token":
            return 200, {"access_token": next(tokens), "expires_in": 3600}
        if seen.headers["authorization"] != "Bearer fresh":
            return 401, {"error": {"message": f"{seen.headers['authorization']} is revoked"}}
        return 200, chat_answer()

    async with cloud(reply) as service:
        auth = (
            f'{{ type = "oidc", token_url = "{service.url}/token", client_id = "me", client_secret = "s" }}'
        )
        async with gateway(config(service, "openai", "/v1", auth=auth), folder=tmp_path) as gw:
            assert await ask_openai(gw)
            assert await ask_openai(gw)
            (first, second) = gw.records
    assert [len(each.attempts) for each in (first, second)] == [1, 1]
    assert [each.target for each in service.seen].count("/token") == 2


async def test_a_new_key_in_a_file_is_used_when_the_old_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-old-key-1")

    def reply(seen: Seen) -> Reply:
        good = seen.headers["authorization"] == f"Bearer {valid}"
        return (200, chat_answer()) if good else (401, {"error": {"message": "Incorrect API key"}})

    valid = "sk-old-key-1"
    async with cloud(reply) as service:
        text = config(service, "openai", "/v1", api_key=f'"file:{file}"')
        async with gateway(text, folder=tmp_path) as gw:
            assert await ask_openai(gw)
            valid = "sk-new-key-2"
            file.write_text(valid)
            assert await ask_openai(gw)


async def test_a_key_of_a_command_is_masked_in_the_providers_error(tmp_path: Path) -> None:
    def reply(seen: Seen) -> Reply:
        return 400, {
            "error": {"message": f"What is {seen.headers['authorization']}?", "type": "invalid_request_error"}
        }

    async with cloud(reply) as service:
        text = config(service, "openai", "/v1", api_key='"command:echo sk-printed-key"')
        async with gateway(text, folder=tmp_path) as gw:
            with pytest.raises(openai.BadRequestError) as caught:
                await ask_openai(gw)
        log = (tmp_path / "log.json").read_text()
    assert service.seen[0].headers["authorization"] == "Bearer sk-printed-key"
    assert "sk-printed-key" not in caught.value.message + log


async def test_a_provider_without_a_credential_is_passed_over(tmp_path: Path) -> None:
    async with cloud(lambda _: (200, chat_answer())) as service:
        broken = config(
            service, "openai", "/v1", api_key='"command:sh -c \\"echo not signed in >&2; exit 4\\""'
        )
        second = config(service, "openai", "/v1", api_key='"sk-second-key"', priority=2).replace(
            '"up"', '"second"'
        )
        async with gateway(broken + second, folder=tmp_path) as gw:
            assert await ask_openai(gw)
            (record,) = gw.records
        log = (tmp_path / "log.json").read_text()
    assert [each.provider for each in record.attempts] == ["up", "second"]
    assert record.attempts[0].outcome == "upstream_auth"
    assert '"a key command failed"' in log
    assert "not signed in" in log


async def test_the_list_of_models_is_asked_for_again_with_a_fresh_token_too(tmp_path: Path) -> None:
    tokens = iter(["revoked", "fresh"])

    def reply(seen: Seen) -> Reply:
        if seen.target == "/token":
            return 200, {"access_token": next(tokens), "expires_in": 3600}
        if seen.headers["authorization"] != "Bearer fresh":
            return 401, {"error": {"message": "revoked"}}
        return 200, {"object": "list", "data": [{"id": "m", "object": "model"}]}

    async with cloud(reply) as service:
        auth = (
            f'{{ type = "oidc", token_url = "{service.url}/token", client_id = "me", client_secret = "s" }}'
        )
        async with gateway(config(service, "openai", "/v1", auth=auth), folder=tmp_path) as gw:
            listed = await gw.process.app.gateway.upstreams["up"].models()
    assert [model.id for model in listed] == ["m"]


@pytest.mark.parametrize("kind", ["bedrock", "vertex"])
def test_credentials_of_the_environment_go_to_no_other_address(kind: str) -> None:
    found = parse(
        f'[[providers]]\ntype = "{kind}"\nbase_url = "https://elsewhere.example/v1"\n'.encode(),
        file="c",
        environ={"AWS_BEARER_TOKEN_BEDROCK": "aws-key", "AWS_REGION": "eu-west-1"},
        types=provider_types(),
    )
    assert (found.providers[0].api_key, found.providers[0].auth) == ((), None)


def test_a_config_says_what_a_cloud_needs() -> None:
    def fault(text: str, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            parse(text.encode(), file="c", environ=environ, types=provider_types())
        return caught.value.sentence

    assert "the region of bedrock" in fault('[[providers]]\ntype = "bedrock"\n')
    assert "the project of vertex" in fault('[[providers]]\ntype = "vertex"\nlocation = "eu"\n')
    assert "api_key or auth" in fault(
        '[[providers]]\ntype = "bedrock"\nregion = "r"\napi_key = "k"\nauth = { type = "aws" }\n'
    )
    found = parse(
        b'[[providers]]\ntype = "bedrock"\n',
        file="c",
        environ={"AWS_REGION": "eu-west-1"},
        types=provider_types(),
    )
    assert found.providers[0].base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com/openai"
    assert type(found.providers[0].auth).__name__ == "AwsAuth"
