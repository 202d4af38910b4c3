"""The catalog of providers."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import modelplex
from modelplex.config.settings import TypeFacts
from modelplex.core.request import Quirks
from modelplex.dialects.registry import FORMS
from modelplex.http_client import parse_origin
from modelplex.providers import all_specs, read_package_file
from modelplex.providers.specs import ProviderSpec, read_specs
from modelplex.providers.types import TYPES

ROWS = all_specs()
PROMISED = (
    "openai anthropic ollama demo groq mistral deepseek openrouter together fireworks xai gemini gemini-openai azure vllm lmstudio "
    "llamacpp sglang huggingface cerebras perplexity"
)

ROW = """
[it]
title = "It"
otel_name = "it"
base_url = "https://it.example/v1"
dialect = "openai_chat"
serves = ["chat/completions"]
docs = "https://it.example/docs"
"""


@pytest.mark.parametrize("name", PROMISED.split())
def test_every_promised_type_has_a_row(name: str) -> None:
    assert ROWS[name].name == name


def test_the_types_that_a_config_may_name_are_the_rows() -> None:
    types: dict[str, TypeFacts] = dict(TYPES)
    assert list(types) == list(ROWS)


@pytest.mark.parametrize("row", ROWS.values(), ids=str)
def test_a_row_is_whole(row: ProviderSpec) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", row.name)
    assert set(row.address_env) == set(row.address_keys)
    assert row.title
    assert row.docs.startswith("https://")
    assert row.serves
    assert row.key_env is None or re.fullmatch(r"[A-Z][A-Z0-9_]+", row.key_env)
    assert row.key_env or row.local or row.credentials, "users of a service keep their key somewhere"
    for path in [*row.paths.values(), row.models_path]:
        assert path.startswith("/")
    assert {key.removesuffix(":stream") for key in row.paths} <= set(row.serves)
    assert not {"model", "messages", "stream", "input", "prompt"} & set(row.quirks.refuses)
    if row.base_url:
        origin, _ = parse_origin(
            row.address({"project": "p", "region": "r", "location": "l", "resource": "s"})
        )
        assert origin.tls or (row.local and origin.host == "localhost")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "openai",
            {"default_base_url": "https://api.openai.com/v1", "needs_key": True, "needs_base_url": False},
        ),
        (
            "azure",
            {
                "default_base_url": None,
                "needs_key": True,
                "is_users_own": True,
                "address_keys": ("resource",),
            },
        ),
        ("bedrock", {"default_base_url": None, "needs_key": False, "address_keys": ("region",)}),
        ("vertex", {"needs_key": False, "address_keys": ("location", "project")}),
        (
            "ollama",
            {"default_base_url": "http://localhost:11434", "needs_key": False, "needs_base_url": False},
        ),
        ("vllm", {"needs_key": False, "needs_base_url": False, "key_env": "VLLM_API_KEY"}),
        ("demo", {"default_base_url": None, "needs_key": False, "needs_base_url": False, "key_env": None}),
    ],
)
def test_a_config_is_told_what_a_type_needs(name: str, facts: dict[str, object]) -> None:
    assert {fact: getattr(ROWS[name], fact) for fact in facts} == facts


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_a_location_has_a_host(location: str, host: str) -> None:
    found = ROWS["vertex"].address({"project": "p", "location": location})
    assert found == f"https://{host}/v1/projects/p/locations/{location}/publishers/google"


def test_what_services_differ_in_is_in_their_rows() -> None:
    assert ROWS["openai"].quirks == Quirks(
        developer_role=True,
        compacts=True,
        custom_tools=True,
        cache_breakpoints=True,
        loads_tools=True,
        refuses=("tools.parameters.combined",),
    )
    assert ROWS["mistral"].quirks.output_limit == "max_tokens"
    assert not ROWS["mistral"].quirks.stream_usage
    assert ROWS["mistral"].quirks.call_ids == "nine"
    assert "stream_options" in ROWS["mistral"].quirks.refuses
    assert ROWS["deepseek"].quirks.reasoning_back == "reasoning_content"
    assert ROWS["deepseek"].quirks.reasoning_back_for_tools_only
    assert ROWS["openrouter"].quirks.effort == "reasoning"
    assert ROWS["openrouter"].quirks.cache_control
    assert ROWS["groq"].quirks.refuses == ("logprobs", "top_logprobs", "logit_bias")
    strict = {name for name, row in ROWS.items() if "store" in row.quirks.refuses}
    assert strict == {"cerebras", "gemini-openai", "huggingface", "mistral", "nvidia"}
    assert ROWS["gemini"].models_prefix == ROWS["gemini-openai"].models_prefix == "models/"


def test_the_table_states_only_quirks_that_there_are() -> None:
    known = set(Quirks.__struct_fields__)
    for row in tomllib.loads(read_package_file("compatible.toml").decode()).values():
        assert set(row.get("quirks", {})) <= known


VOCABULARY = frozenset(
    "anthropic aws.bedrock azure.ai.inference azure.ai.openai cohere deepseek gcp.gemini gcp.gen_ai gcp.vertex_ai groq "
    "ibm.watsonx.ai mistral_ai moonshot_ai openai perplexity x_ai".split()
)
"""The well-known values of `gen_ai.provider.name`, of which one must be used where it applies:
https://github.com/open-telemetry/semantic-conventions-genai/blob/v0.1.0/docs/gen-ai/client-inference.md
(read on 2026-12-01).
"""
WELL_KNOWN = {
    **{name: name for name in ("anthropic", "cohere", "deepseek", "groq", "openai", "perplexity")},
    "azure": "azure.ai.openai",
    "azure-anthropic": "azure.ai.inference",
    "xai": "x_ai",
    **dict.fromkeys(
        ("bedrock", "bedrock-anthropic", "bedrock-converse", "bedrock-mantle", "bedrock-mantle-anthropic"),
        "aws.bedrock",
    ),
    **dict.fromkeys(("gemini", "gemini-openai"), "gcp.gemini"),
    **dict.fromkeys(("vertex", "vertex-anthropic", "vertex-openai"), "gcp.vertex_ai"),
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
}
OURS = {"demo": "modelplex.demo", "replay": "modelplex.replay"}


@pytest.mark.parametrize("row", ROWS.values(), ids=str)
def test_every_type_has_its_name_in_the_conventions(row: ProviderSpec) -> None:
    """A type without a well-known value is named by itself, which is no other's value."""
    assert row.otel_name == {**WELL_KNOWN, **OURS}.get(row.name, row.name)
    assert (row.otel_name in VOCABULARY) == (row.name in WELL_KNOWN)


def test_a_row_takes_the_usual_for_what_it_does_not_say() -> None:
    row = read_specs(ROW.encode())["it"]
    assert (row.auth, row.models_path, row.quirks, row.local) == ("bearer", "/models", Quirks(), False)
    assert row.path("chat/completions", stream=True) == "/chat/completions"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ROW.replace("/v1", "/v1/"), "it: a trailing slash"),
        (ROW + 'root = "/v1"', "it: models_path must start with '/v1'"),
        (ROW + 'models_path = "models"', "it: models_path must start with ''"),
        (ROW + "colour = 1", "colour"),
        (ROW + "quirks = { refuses = 1 }", "refuses"),
        (ROW.replace("chat/completions", "chat"), "serves"),
        ("[it", "toml|Expected"),
    ],
)
def test_a_faulty_table_is_refused_by_name(wrong: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_specs(wrong.encode())


@pytest.mark.parametrize("package", ["limits", "policy", "records", "routing"])
def test_no_type_of_provider_is_named_outside_of_the_catalog(package: str) -> None:
    folder = Path(modelplex.__file__).parent / package
    named = {
        (file.name, node.value)
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in ROWS.keys() - FORMS.keys()
    }
    assert named == set()
