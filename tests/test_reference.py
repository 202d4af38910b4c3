"""docs/reference and docs/why say what the code does: each key, flag, route, error, header and
room, and none that is not there.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from modelplex.command_options import build_parser
from modelplex.config import mcp_settings, settings
from modelplex.core import errors
from modelplex.core.request import Quirks
from modelplex.dialects.dialect import Dialect
from modelplex.dialects.gemini.dialect import GEMINI
from modelplex.dialects.ollama.dialect import OLLAMA
from modelplex.dialects.registry import FORMS
from modelplex.providers import all_specs
from modelplex.server.admin import AdminRoutes
from modelplex.server.routes import BASES

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "modelplex"
REFERENCE = ROOT / "docs" / "reference"
CODE = re.compile(r"`([^`]+)`")

pytestmark = pytest.mark.docs


def rows(text: str) -> list[list[str]]:
    """The cells of each row of a page's tables, heads and rules left out."""
    lines = text.splitlines()
    found: list[list[str]] = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("| ") and not after.startswith("|--"):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def page(name: str, *, section: str | None = None) -> str:
    """A page of the reference, or what stands below one of its headings up to the next."""
    text = (REFERENCE / name).read_text()
    if section is None:
        return text
    found = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{name} has no section {section!r}"
    return found[1]


def source() -> str:
    return "\n".join(file.read_text() for file in sorted(SRC.rglob("*.py")))


# --- config.md

TABLES: dict[str, type[msgspec.Struct]] = {
    "server": settings.ServerConfig,
    "providers": settings.ProviderConfig,
    "quirks": Quirks,
    "failover": settings.FailoverConfig,
    "log": settings.LogConfig,
    "record": settings.RecordConfig,
    "otel": settings.OtelConfig,
    "shared": settings.SharedConfig,
    "packages": settings.PackagesConfig,
    "mcp": mcp_settings.McpConfig,
    "servers": mcp_settings.McpServer,
    "cache": settings.CacheConfig,
    "policy": settings.PolicyConfig,
    "policy.allow": settings.AllowConfig,
    "agents": settings.AgentConfig,
    "teams": settings.TeamConfig,
    "rate": settings.RateConfig,
    "budget": settings.BudgetConfig,
    "prices": settings.PriceConfig,
}
FROM_ELSEWHERE = {
    ("providers", "name"),
    ("providers", "type"),
    ("servers", "name"),
    ("otel", "endpoint"),
    ("otel", "headers"),
    ("agents", "name"),
    ("teams", "name"),
    ("teams", "budget"),
    ("prices", "model"),
    ("prices", "input"),
    ("prices", "output"),
}
FROM_THE_TYPE = {("providers", "base_url"), ("providers", "api_key"), ("providers", "quirks")}


def toml(value: object) -> str:
    match value:
        case None | () | {} | msgspec.Struct():
            return "none"
        case (str(only),):
            return f'`"{only}"`'
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`'
        case _:
            return f"`{value}`"


@pytest.mark.parametrize("section", TABLES)
def test_every_key_is_documented_with_its_default(section: str) -> None:
    told = {CODE.findall(row[0])[0]: row[2] for row in rows(page("config.md", section=section))}
    fields = {field.name: field for field in msgspec.structs.fields(TABLES[section])}
    assert list(told) == list(fields)
    for name, field in fields.items():
        if (section, name) in FROM_ELSEWHERE | FROM_THE_TYPE:
            continue
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        assert told[name] == toml(default), name


def test_every_table_of_the_config_is_documented() -> None:
    assert {field.name for field in msgspec.structs.fields(settings.Config)} - {"path", "digest"} <= {
        *TABLES,
        "aliases",
    }
    assert page("config.md", section="aliases")


def test_every_type_is_documented_with_its_address_and_variable() -> None:
    told = {
        row[0].strip("`"): (row[2].strip("`"), row[3].strip("`"))
        for row in rows(page("config.md", section="Types"))
    }
    for name, row in all_specs().items():
        address = "" if name in {"demo", "replay"} else row.base_url or "yours"
        assert told.pop(name) == (address, row.key_env or "")
    assert not told


def test_the_readme_names_every_type() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in all_specs() if f"`{name}`" not in text] == []


# --- errors.md


def kinds(of: type[errors.ModelplexError]) -> Iterator[type[errors.ModelplexError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_error_is_documented_as_it_is() -> None:
    told = {row[0].strip("`"): row[1:5] for row in rows(page("errors.md", section="Errors by cause"))}
    groups = {errors.ClientError, errors.ProviderError}
    for kind in set(kinds(errors.ModelplexError)) - groups:
        code = f"`{kind.default_code}`" if kind.default_code else "*none*"
        expected = [
            str(kind.default_status),
            code,
            _yes(kind.another_may_do_better),
            _yes(kind.sdk_may_retry),
        ]
        assert told.pop(kind.__name__) == expected, kind
    assert not told


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def test_every_code_is_documented_and_none_is_made_up() -> None:
    used = set(re.findall(r'code(?:: ClassVar\[str \| None\])? ?= ?"(\w+)"', source()))
    used |= set(re.findall(r'(?:code|OVERFLOW) = "(\w+)"', source()))
    finer = {row[0].strip("`") for row in rows(page("errors.md", section="Codes"))}
    usual = {row[2].strip("`") for row in rows(page("errors.md", section="Errors by cause"))} - {"*none*"}
    assert {"context_length_exceeded", "model_not_found", "circuit_open"} <= used
    assert used - finer - usual == set()
    assert finer - used == set()


# --- headers.md


def test_every_header_of_ours_is_documented_and_none_is_made_up() -> None:
    ours = r"\b(x-modelplex-[a-z-]+|x-should-retry|x-request-id|retry-after(?:-ms)?)\b"
    written = set(re.findall(f'b"{ours}(?:"|: )', source()))
    told = set(re.findall(f"`{ours}`", page("headers.md", section="Response headers")))
    assert "x-modelplex-provider" in written
    assert written == told


def test_every_operation_of_a_change_is_documented() -> None:
    (row,) = [row for row in rows(page("headers.md")) if "x-modelplex-changes" in row[0]]
    ops = re.search(r"op: Literal\[(.*?)\]", (SRC / "core" / "request.py").read_text())
    assert ops
    assert [op for op in re.findall(r'"(\w+)"', ops[1]) if f"`{op}`" not in row[1]] == []


# --- http.md


def below(family: Dialect) -> list[str]:
    """The paths, or methods, of a dialect and its variants."""
    return [path for form in FORMS.values() if form.family is family.form for path in form.paths]


def test_every_route_is_documented_and_none_is_made_up() -> None:
    told = {row[0].strip("`") for row in rows(page("http.md", section="Models"))}
    assert told == {
        f"POST /{path}" for form in FORMS.values() if not form.family.bases for path in form.paths
    } | {"GET /models", "GET /models/{name}"}
    text = page("http.md", section="Models")
    assert [base for base in BASES if f"`{base.rstrip('/')}`" not in text] == []


def test_every_route_in_gemini_s_form_is_documented() -> None:
    text = page("http.md", section="Gemini")
    told = {row[0].strip("`") for row in rows(text)}
    methods = {f"POST /models/{{name}}:{method}" for method in below(GEMINI)}
    assert told == methods | {"GET /models", "GET /models/{name}"}
    assert [
        base for base in (*GEMINI.form.bases, GEMINI.form.shared_base) if f"`{base.rstrip('/')}`" not in text
    ] == []


def test_every_route_in_ollama_s_form_is_documented() -> None:
    text = page("http.md", section="Ollama")
    told = {row[0].strip("`") for row in rows(text)}
    views = {f"GET /{name}" for name in OLLAMA.views}
    assert told == {f"POST /{path}" for path in (*below(OLLAMA), *OLLAMA.model_views)} | views
    assert [base for base in OLLAMA.form.bases if f"`{base.rstrip('/')}`" not in text] == []


class NoMeters:
    def render(self) -> bytes:
        return b""


def inside() -> AdminRoutes:
    return AdminRoutes(settings.Config(), NoMeters(), addresses=list[str], dropped=lambda: 0)


def test_every_view_is_documented_and_none_is_made_up() -> None:
    told = {row[0].strip("`") for row in rows(page("http.md", section="The gateway itself"))}
    told -= {"POST /v1/metrics`, `/v1/logs`, `/v1/traces"}  # no view: clients send to them
    views = {*inside()._views, "metrics"}
    assert all(inside().view(name) is not None for name in views)
    told -= {"/_internal/agents/{name}", "GET /health/live", "GET /health/ready"}
    assert told == {f"GET /_internal/{name}" for name in views} | {"GET /health", "GET /", "GET /_internal/"}


# --- metrics


def test_every_metric_that_a_document_names_is_there() -> None:
    there = {name for row in rows(page("metrics.md")) for name in re.findall(r"\w+", row[0])}
    named = {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for file in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
        for name in re.findall(r"\b(?:modelplex|gen_ai_client)_\w+", file.read_text())
    }
    assert "modelplex_breaker_state" in named
    assert named - there == {"modelplex_client"}  # the package of clients/python


# --- cli.md


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {
        f"{action.option_strings[-1]} {action.metavar or ''}".strip()
        for action in parser._actions
        if action.option_strings
    }


def subcommands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command with its whole name, those of commands too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = cast("dict[str, argparse.ArgumentParser]", action.choices)
            for word, command in commands.items():
                yield f"{name} {word}", command
                yield from subcommands(command, f"{name} {word}")


def test_every_option_is_documented_and_none_is_made_up() -> None:
    parser = build_parser()
    told = {row[0].strip("`") for row in rows(page("cli.md", section="Command line"))}
    assert told == options(parser)
    for name, command in subcommands(parser, "modelplex"):
        of_its_own = {row[0].strip("`") for row in rows(page("cli.md", section=name))}
        if name == "modelplex replay":  # the section names the options that modelplex run does not have
            told = told | options(dict(subcommands(parser, "modelplex"))["modelplex run"])
        assert of_its_own == options(command) - told
