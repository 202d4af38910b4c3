"""A config: what it means, every fault with its place, and no secret seen."""

import copy
import itertools
import json
import math
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.config import (
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    Config,
    ConfigError,
    FailoverConfig,
    LogConfig,
    McpConfig,
    McpServer,
    PolicyConfig,
    PriceConfig,
    ProviderConfig,
    RateConfig,
    Secret,
    ServerConfig,
    TypeFacts,
    describe,
    embedded,
    hide,
    http_address,
    load,
    load_without_file,
    ollama_url,
    parse,
    prices,
    provider_types,
    redacted,
    tools,
)
from modelplex.config import agents as callers
from modelplex.config import read as reading
from modelplex.config.address import provider_url
from modelplex.config.load import listens
from modelplex.config.toml_positions import dotted, line_of, places
from modelplex.core.request import Quirks

EXAMPLE = Path(__file__).resolve().parents[2] / "modelplex.example.toml"


class Facts(msgspec.Struct, frozen=True):
    default_base_url: str | None = None
    needs_key: bool = False
    needs_base_url: bool = False
    key_env: str | None = None


TYPES: Mapping[str, TypeFacts] = {
    "openai": Facts("https://api.openai.com/v1", needs_key=True, key_env="OPENAI_API_KEY"),
    "anthropic": Facts("https://api.anthropic.com", needs_key=True, key_env="ANTHROPIC_API_KEY"),
    "groq": Facts("https://api.groq.com/openai/v1", needs_key=True, key_env="GROQ_API_KEY"),
    "azure": Facts(needs_key=True, needs_base_url=True, key_env="AZURE_OPENAI_API_KEY"),
    "ollama": Facts("http://127.0.0.1:11434", key_env="OLLAMA_API_KEY"),
    "demo": Facts(),
}

KEY = "sk-very-secret"


def read(text: str, **environ: str) -> Config:
    return parse(text.encode(), file="config.toml", environ=environ, types=TYPES)


def faults(text: str, **environ: str) -> list[str]:
    """The report, a line for each fault."""
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return [str(fault) for fault in caught.value.faults]


def fault(text: str, **environ: str) -> str:
    (only,) = faults(text, **environ)
    return only


# --- what a config means --------------------------------------------------------------------------

SNIPPET = """\
[server]
log_level = "info"
max_request_size = 10485760
[[providers]]
name = "openai"
type = "openai"            # openai | anthropic | ollama | demo | a row of compatible.toml
base_url = "https://api.openai.com/v1"
api_key = "${OPENAI_API_KEY}"
models = ["gpt-4", "gpt-3.5-turbo"]
priority = 1
[mcp]
enabled = true
servers = [ { name = "filesystem", command = "mcp-server-filesystem", args = ["/workspace"] } ]
"""


def test_the_documented_config_works_as_it_stands() -> None:
    config = read(SNIPPET, OPENAI_API_KEY=KEY)
    assert config.server == ServerConfig(log_level="info", max_request_size=10_485_760)
    assert config.providers == (
        ProviderConfig(
            name="openai",
            type="openai",
            base_url="https://api.openai.com/v1",
            api_key=(Secret(KEY),),
            models=("gpt-4", "gpt-3.5-turbo"),
            priority=1,
        ),
    )
    filesystem = McpServer(name="filesystem", command="mcp-server-filesystem", args=(Secret("/workspace"),))
    assert config.mcp == McpConfig(enabled=True, servers=(filesystem,))
    assert config.path == "config.toml"


def _subsets(text: str) -> Iterator[str]:
    """Each subset of the tables, and of the keys in each table, that leaves a provider its name or
    its type and an MCP server whole.
    """
    tables = [f"[{part}" for part in re.split(r"^\[(?=\w|\[)", text, flags=re.MULTILINE)[1:]]
    for count in range(len(tables) + 1):
        yield from ("".join(chosen) for chosen in itertools.combinations(tables, count))
    for table in tables:
        head, *keys = table.splitlines()
        for count in range(len(keys) + 1):
            for chosen in itertools.combinations(keys, count):
                lines = "\n".join([head, *chosen])
                if "[[providers]]" not in head or "name =" in lines or "type =" in lines:
                    yield lines


def test_every_subset_of_the_documented_config_works() -> None:
    subsets = list(_subsets(SNIPPET))
    assert len(subsets) == 8 + 4 + 48 + 4
    for text in subsets:
        config = read(text, OPENAI_API_KEY=KEY)
        assert config.providers[0] == msgspec.structs.replace(
            read(SNIPPET, OPENAI_API_KEY=KEY).providers[0], models=config.providers[0].models
        )


def test_an_empty_config_is_all_defaults_beside_the_providers_that_are_found() -> None:
    config = read("")
    assert (config.server, config.failover, config.log) == (ServerConfig(), FailoverConfig(), LogConfig())
    assert [provider.name for provider in config.providers] == ["demo"]


def test_a_socket_without_http_means_no_http() -> None:
    assert read('[server]\nsocket = "a.sock"').server.http == ()
    assert read('[server]\nsocket = ["a.sock", "b.sock"]').server.socket == ("a.sock", "b.sock")
    both = read('[server]\nsocket = "a.sock"\nhttp = ":80"').server
    assert (both.http, both.socket) == (("127.0.0.1:80",), ("a.sock",))


def test_a_config_that_listens_nowhere_is_refused() -> None:
    assert fault("[server]\nhttp = []").startswith("config.toml:2: server.http: expected somewhere to listen")


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("127.0.0.1:11435", "127.0.0.1:11435"),
        (":8080", "127.0.0.1:8080"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::1]:08080", "[::1]:8080"),
        ("localhost:0", "localhost:0"),
    ],
)
def test_an_address_gets_both_its_parts(written: str, read_as: str) -> None:
    assert http_address(written) == read_as


@pytest.mark.parametrize(
    ("host", "read_as"),
    [("0.0.0.0", "0.0.0.0"), (" ", "127.0.0.1"), ("::", "[::]"), ("[::]", "[::]"), ("box", "box")],
)
def test_the_environment_says_what_an_address_without_a_host_means(host: str, read_as: str) -> None:
    environ = {"MODELPLEX_DEFAULT_HOST": host}
    written = '[server]\nhttp = [":8080", "127.0.0.1:81"]'
    assert read(written, **environ).server.http == (f"{read_as}:8080", "127.0.0.1:81")
    assert read("", **environ).server.http == (f"{read_as}:11435",)
    assert read('[server]\nlog_level = "debug"', **environ).server.http == (f"{read_as}:11435",)
    assert read('[server]\nsocket = "a.sock"', **environ).server.http == ()
    assert embedded(environ, found_ollama=False, types={}).server.http == (f"{read_as}:11435",)


def test_a_default_host_that_is_none_is_a_fault_of_the_environment() -> None:
    environ = {"MODELPLEX_DEFAULT_HOST": "http://x"}
    with pytest.raises(ConfigError, match=r"MODELPLEX_DEFAULT_HOST.*write an address such as"):
        embedded(environ, found_ollama=False, types={})
    with pytest.raises(ConfigError, match=r"MODELPLEX_DEFAULT_HOST.*write an address such as"):
        read('[server]\nhttp = ":80"', **environ)


@pytest.mark.parametrize(
    "written", ["", "8080", "host", "::1:80", "http://x:1", "a b:1", "h:65536", "h:-1", "h:٣"]
)
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        http_address(written)


def test_the_usual_variable_holds_the_key_where_none_is_written() -> None:
    (provider,) = read('[[providers]]\nname = "groq"', GROQ_API_KEY=f"{KEY}\n").providers
    assert (provider.type, provider.api_key) == ("groq", (Secret(KEY),))


def test_the_usual_key_is_not_sent_to_an_address_of_the_users_own() -> None:
    text = '[[providers]]\ntype = "openai"\nbase_url = "http://127.0.0.1:8080/v1/"'
    (provider,) = read(text, OPENAI_API_KEY=KEY).providers
    assert (provider.base_url, provider.api_key) == ("http://127.0.0.1:8080/v1", ())


def test_another_path_of_the_services_own_address_takes_its_usual_key() -> None:
    text = '[[providers]]\ntype = "anthropic"\nbase_url = "https://api.anthropic.com/v1"'
    assert read(text, ANTHROPIC_API_KEY=KEY).providers[0].api_key == (Secret(KEY),)


def test_a_type_without_an_address_of_its_own_needs_one_and_takes_its_usual_key() -> None:
    assert "providers[0].base_url: expected an address" in faults('[[providers]]\ntype = "azure"')[0]
    text = '[[providers]]\ntype = "azure"\nbase_url = "https://x.openai.azure.com/openai/v1"'
    assert read(text, AZURE_OPENAI_API_KEY=KEY).providers[0].api_key == (Secret(KEY),)
    assert "providers[0].api_key: expected a key, found none" in fault(text)


@pytest.mark.parametrize(
    "url", ["unix:/run/x.sock", "unix:/run/x.sock:/v1", "http://[::1]:80", "https://h/v1"]
)
def test_a_base_url_may_be_http_https_or_a_socket(url: str) -> None:
    assert read(f'[[providers]]\ntype = "openai"\nbase_url = "{url}"').providers[0].base_url == url


def test_an_alias_is_one_model_or_several() -> None:
    text = '[aliases]\nfast = "groq/llama"\n"gpt-4.1" = ["openai/gpt-4.1", "llama"]'
    assert read(text).aliases == {"fast": ("groq/llama",), "gpt-4.1": ("openai/gpt-4.1", "llama")}


def test_quirks_take_the_types_of_the_quirks_themselves() -> None:
    text = '[[providers]]\ntype = "demo"\n[providers.quirks]\nrefuses = ["seed"]\ncache_control = true\neffort = ""'
    quirks = read(text).providers[0].quirks
    changed = msgspec.structs.replace(Quirks(), **cast("dict[str, Any]", quirks))
    assert changed == Quirks(refuses=("seed",), cache_control=True, effort="")


def test_a_variable_is_filled_in_anywhere_and_two_dollars_are_one() -> None:
    text = '[server]\nsocket_group = "g-${TEAM}-$$x"\n[aliases]\na = ["$1", "${TEAM}/$${TEAM}"]'
    config = read(text, TEAM="red")
    assert (config.server.socket_group, config.aliases["a"]) == ("g-red-$x", ("$1", "red/${TEAM}"))


def test_a_byte_order_mark_and_carriage_returns_change_nothing() -> None:
    content = b'\xef\xbb\xbf[server]\r\nlog_level = "debug"\r\n'
    assert parse(content, file="f", environ={}, types=TYPES).server.log_level == "debug"


# --- faults ---------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_in_the_order_of_the_lines() -> None:
    text = """\
[server]
log_levl = "info"
http = ["8080"]
priority = 3

[[providers]]
name = "openai"
api_key = "${OPENAI_API_KEY}"

[[providers]]
name = "openai"
type = "opnai"
quirks = { output_limt = 1,
           system_role = "x" }"""
    told = faults(text.replace(",\n           ", ", "))
    assert [one.partition(": expected")[0] for one in told] == [
        "config.toml:2: server.log_levl",
        "config.toml:3: server.http[0]",
        "config.toml:4: server.priority",
        "config.toml:8: providers[0].api_key",
        "config.toml:11: providers[1].name",
        "config.toml:12: providers[1].type",
        "config.toml:13: providers[1].quirks.output_limt",
        "config.toml:13: providers[1].quirks.system_role",
    ]
    assert told[0].endswith('expected a known key, found "log_levl"; did you mean "log_level"?')
    assert told[1].endswith(
        'found "8080"; a port alone has a colon before it: ":8080" means port 8080 of localhost'
    )
    assert told[2].endswith("it belongs into one of [[providers]]")
    assert told[3].endswith("expected the environment variable OPENAI_API_KEY to be set, found it unset")
    assert told[4].endswith('found "openai" again; the first is on line 7')
    assert told[5].endswith('did you mean "openai"?')


def test_a_report_of_several_faults_counts_them() -> None:
    with pytest.raises(ConfigError) as caught:
        read("a = 1\nb = 2")
    assert caught.value.sentence.splitlines()[0] == "the config has 2 faults"
    assert caught.value.sentence.count("config.toml:") == 2


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("[server]\nlog_level =\n", 2, "invalid value"),
        ("[server]\n\n[server]", 3, "twice"),
        ('a = "x', 1, "TOML"),
        ("a = [\n1,\n", 2, "TOML"),
        (f"\na = {'9' * 5000}", None, "TOML"),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, line: int | None, told: str) -> None:
    place = "config.toml" if line is None else f"config.toml:{line}"
    assert fault(text).startswith(f"{place}: expected TOML, found ")
    assert told in fault(text)


def test_bytes_that_are_not_text_are_told_with_their_line() -> None:
    with pytest.raises(ConfigError, match=r"^f:2: expected text in UTF-8"):
        parse(b'a = 1\nb = "\xff"', file="f", environ={}, types=TYPES)


def test_lists_without_end_are_a_fault_and_no_crash() -> None:
    assert "nested too deeply" in fault(f"a = {'[' * 5000}{']' * 5000}")


def test_a_config_that_is_no_config_by_its_size_is_refused() -> None:
    assert "at most" in fault("#" * (reading.LARGEST_FILE + 1))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nhttp = 8080", "server.http: expected an address, or a list of them, found a number"),
        ('[server]\nhttp = [":1", ":1"]', "found one of them twice"),
        ("[server]\nsocket_mode = 432", 'octal digits in quotes, such as "0660", found 432'),
        ('[server]\nsocket_mode = "0888"', "server.socket_mode"),
        ("[server]\nmax_request_size = true", "found true"),
        ("[server]\nmax_request_size = 0", "a whole number from 1"),
        ("[server]\nmax_request_size = 1.5", "found 1.5"),
        (
            "[server]\nmax_body_memory_per_caller = 5",
            "expected at least 33554432 bytes, which is [server] max_request_size, found 5",
        ),
        (
            "[server]\nmax_request_size = 10\nmax_body_memory = 19",
            "expected at least 20 bytes, which is twice the share of one caller, found 19",
        ),
        (
            "[server]\nmax_request_size = 70000\n[mcp]\nmax_message = 70001",
            "mcp.max_message: expected at most 70000 bytes, which is [server] max_body_memory_per_caller, found 70001",
        ),
        ("[server]\nkeep_alive = 0", "expected seconds, a number above 0, found 0"),
        ("[server]\nkeep_alive = inf", "found inf"),
        ("[server]\nkeep_alive = nan", "found nan"),
        ("[server]\nkeep_alive = 1e9", "at most 10000000"),
        ('[server]\nallowed_hosts = ["http://x"]', "without scheme and port"),
        ('[server]\nallowed_origins = ["x"]', 'an origin such as "https://app.example.com"'),
        ('[server]\nlog_level = "warn"', 'did you mean "warning"?'),
        ('[server]\nsocket = "a\\u0007"', "a control character in it"),
        ('[server]\nsocket = " "', "found an empty string"),
        ("server = 3", "server: expected a table, found a number"),
        ('log_level = "info"', "log_level: expected a known key"),
        ('log_lvl = "info"', 'did you mean "log_level", which belongs into [server]?'),
        ("[sever]", 'did you mean "server"?'),
        ("[log]\nfile = 1979-05-27", "found a date or time"),
        ("[log]\nbodies = 1", "expected true or false, found 1"),
        ('[providers]\nname = "x"', "each begins with [[providers]]"),
        ('providers = ["openai"]', "providers[0]: expected a table, found a string"),
        ('providers = "openai"', "as in providers = [ { ... } ]"),
        ("[[providers]]", "expected a name or a type"),
        ("[[providers]]\npriority = 1", "the types are: anthropic, azure, demo, groq, ollama, openai"),
        ('[[providers]]\nname = "a/b"\ntype = "demo"', "a name of letters, digits"),
        ('[[providers]]\ntype = "demo"\nmodels = []', "leave it out to ask the provider"),
        ('[[providers]]\ntype = "demo"\npriority = -1', "providers[0].priority"),
        ('[[providers]]\ntype = "demo"\nverify_tls = "no"', 'found "no"'),
        ('[[providers]]\ntype = "demo"\n[providers.headers]\nHost = "x"', "a header that is yours to set"),
        ('[[providers]]\ntype = "demo"\nheaders = {Authorization = "x"}', "the key goes into api_key"),
        ('[[providers]]\ntype = "demo"\nheaders = {"a b" = "x"}', "expected the name of a header"),
        ('[[providers]]\ntype = "demo"\nheaders = {a = "x\\r\\nb: c"}', "not visible ASCII"),
        ('[[providers]]\ntype = "demo"\nquirks = {refuses = "a"}', "expected a list of strings"),
        ('[[providers]]\ntype = "demo"\nquirks = {output_limit = 1}', "expected a string, found 1"),
        ('[[providers]]\ntype = "openai"\nbase_url = "api.openai.com"', "base URL must begin with"),
        ('[[providers]]\ntype = "openai"\nbase_url = "https://h/v1/chat/completions"', "/chat/completions"),
        ('[[providers]]\ntype = "openai"', "or set the environment variable OPENAI_API_KEY"),
        ('[aliases]\ngpt-4.1 = "x"', "a name with a dot in it is written in quotes"),
        ("[aliases]\na = []", "found an empty list"),
        ('[aliases]\n"" = "a"', "a name that clients can ask for"),
        ("[failover]\nmax_attempts = 0", "attempts, a whole number from 1"),
        ('[mcp]\nservers = [{command = "x"}]', "mcp.servers[0].name: expected a name"),
        ('[mcp]\nservers = [{name = "x"}]', "found neither"),
        ('[mcp]\nservers = [{name = "x", command = "c", url = "https://x"}]', "found both"),
        ('[mcp]\nservers = [{name = "x", url = "ftp://x"}]', "begins with https:// or http://"),
        ('[mcp]\nservers = [{name = "x", url = "https://x", cwd = "/"}]', "expected a command beside it"),
        ('[mcp]\nservers = [{name = "x", command = "c", headers = {}}]', "expected a url beside it"),
        ('[mcp]\nservers = [{name = "x", command = "c", env = {"a=b" = ""}}]', "a variable's name"),
        (
            '[aliases]\na = "${not a name}"',
            "expected ${NAME} with a variable's name; a $ itself is written $$",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_would_be_right(text: str, told: str) -> None:
    assert told in fault(text)


def test_a_file_that_cannot_be_read_is_a_fault_too(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load(str(path), environ={}, types=TYPES)
        assert str(caught.value).startswith(f"{path}: expected a readable file, found ")


# --- lines ----------------------------------------------------------------------------------------

MAZE = '''\
# [comment]
a = 1
b.c."d.e" = "x" # [no]
[t]
k = """
[x]
q = 3 \\""" ""\\""""
l = [
  1, # one ]
  { z = 2, "y\\u0041" = '}' },
]
m = \'\'\'
n = 1\'\'\'\'\'
d = 1979-05-27 07:32:00
[[p]]
n = 1
[[p.q]]
n = 2
[[ p ]]
[p . 'r']
s = {}
'''


def test_each_key_is_found_on_its_line() -> None:
    tomllib.loads(MAZE)
    assert {dotted(path): line for path, line in places(MAZE).items()} == {
        "a": 2,
        "b": 3,
        "b.c": 3,
        'b.c."d.e"': 3,
        "t": 4,
        "t.k": 5,
        "t.l": 8,
        "t.l[0]": 9,
        "t.l[1]": 10,
        "t.l[1].z": 10,
        "t.l[1].yA": 10,
        "t.m": 12,
        "t.d": 14,
        "p": 15,
        "p[0]": 15,
        "p[0].n": 16,
        "p[0].q": 17,
        "p[0].q[0]": 17,
        "p[0].q[0].n": 18,
        "p[1]": 19,
        "p[1].r": 20,
        "p[1].r.s": 21,
    }


def test_a_key_that_is_not_written_is_told_at_its_table() -> None:
    lines = places("\n[[p]]\na = 1")
    assert (line_of(("p", 0, "b"), lines), line_of(("q",), lines)) == (2, None)


_KEYS = st.text(min_size=1, max_size=8)
_LEAVES = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=12), st.just(1.5))
_TREES = st.dictionaries(
    _KEYS,
    st.recursive(
        _LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
        max_leaves=12,
    ),
    max_size=4,
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    steps: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        steps = list(cast("dict[str | int, object]", value).items())
    elif isinstance(value, list):
        steps = list(enumerate(cast("list[object]", value)))
    for step, inner in steps:
        yield (*path, step)
        yield from _paths(inner, (*path, step))


@given(_TREES)
def test_whatever_toml_holds_is_found(tree: dict[str, object]) -> None:
    lines = [f"{_toml(key)} = {_toml(value)}" for key, value in tree.items()]
    text = "\n".join(lines)
    assert tomllib.loads(text) == tree
    found = places(text)
    assert set(found) == set(_paths(tree))
    assert [found[(key,)] for key in tree] == list(range(1, len(tree) + 1))


def _toml(value: object) -> str:
    """JSON's strings are TOML's, but for the character 127."""
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, cast("list[object]", value))) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_shows_only_to_whoever_says_reveal() -> None:
    secret = Secret(KEY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>30}", f"{[secret]}", json.dumps(hide(secret))]
    assert all(KEY not in one and "********" in one for one in shown)
    assert secret.reveal() == KEY
    assert (secret, hash(secret)) == (Secret(KEY), hash(copy.copy(secret)))
    assert secret != Secret("other")
    assert secret != KEY
    assert Secret("x")
    assert not Secret("")


def test_json_refuses_a_secret_that_nobody_hid() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret(KEY))
    with pytest.raises(NotImplementedError):
        hide(3j)


SECRETIVE = """\
[server]
internal_token = "${TOKEN}"
[[providers]]
type = "openai"
api_key = ["${TOKEN}", "sk-2"]
headers = { x-team = "${TOKEN}" }
[[mcp.servers]]
name = "a"
command = "c"
args = ["--token", "${TOKEN}"]
env = { T = "${TOKEN}" }
[[mcp.servers]]
name = "b"
url = "https://x/${TOKEN}?key=${TOKEN}"
headers = { authorization = "Bearer ${TOKEN}" }
"""


def test_no_form_of_the_config_shows_a_secret() -> None:
    config = read(SECRETIVE, TOKEN=KEY)
    shown = [repr(config), str(config), msgspec.json.encode(config, enc_hook=hide).decode()]
    shown.append(json.dumps(redacted(config)))
    assert all(KEY not in one and "sk-2" not in one for one in shown)
    assert config.mcp.servers[1].headers["authorization"].reveal() == f"Bearer {KEY}"


def test_the_redacted_config_says_how_many_keys_there_are() -> None:
    text = '[[providers]]\ntype = "demo"\n[[providers]]\ntype = "openai"\n[[providers]]\ntype = "groq"\napi_key = ["a", "b"]'
    providers = cast("list[dict[str, object]]", redacted(read(text, OPENAI_API_KEY=KEY))["providers"])
    assert [provider["api_key"] for provider in providers] == ["not set", "set", "2 keys"]


@pytest.mark.parametrize(
    "text",
    [
        '[[providers]]\ntype = "openai"\napi_key = ["${K}", "${K}"]',
        '[[providers]]\ntype = "openai"\napi_key = "${K}\\u0007"',
        '[[providers]]\ntype = "openai"\napi_key = "sk-very-secret\\n\\nx"',
        '[[providers]]\ntype = "openai"\napi_key = { key = "sk-very-secret" }',
        '[[providers]]\ntype = "openai"\napi_key = "a${sk-very-secret"',
        '[[providers]]\ntype = "openai"\napikey = "sk-very-secret"\nbase_url = "http://h"',
        '[[providers]]\ntype = "openai"\nbase_url = "https://u:sk-very-secret@h/v1"',
        '[[providers]]\ntype = "openai"\nbase_url = "https://h/v1?key=sk-very-secret"',
        '[[providers]]\ntype = "openai"\nbase_url = "${K}"',
        '[[providers]]\ntype = "${K}"',
        '[server]\nlog_level = "${K}"',
        '[server]\nhttp = "${K}"',
        '[server]\ninternal_token = ["sk-very-secret"]',
        '[mcp]\nservers = [{name = "a", url = "https://u:sk-very-secret@h"}]',
        '[mcp]\nservers = [{name = "a", command = "c", args = "sk-very-secret"}]',
    ],
)
def test_no_fault_shows_a_secret(text: str) -> None:
    report = "\n".join(faults(text, K=KEY, OPENAI_API_KEY="x"))
    assert KEY not in report


# --- what is found without a config ---------------------------------------------------------------


def test_keys_in_the_environment_an_ollama_and_the_demo_are_found_in_that_order() -> None:
    environ = {
        "GROQ_API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": " ",
        "AZURE_OPENAI_API_KEY": KEY,
    }
    config = embedded(environ, found_ollama=True, types=TYPES)
    assert [(one.name, one.base_url) for one in config.providers] == [
        ("openai", "https://api.openai.com/v1"),
        ("groq", "https://api.groq.com/openai/v1"),
        ("ollama", "http://127.0.0.1:11434"),
        ("demo", ""),
    ]
    priorities = [one.priority for one in config.providers]
    assert priorities == sorted(priorities)
    assert priorities[-1] > priorities[-2] > priorities[0]
    assert config.path is None
    assert describe(config, types=TYPES) == (
        "openai: its key is in OPENAI_API_KEY",
        "groq: its key is in GROQ_API_KEY",
        "ollama: listens at http://127.0.0.1:11434",
        "demo: built in and offline, for first steps; its answers are made up",
    )


def test_with_nothing_to_find_there_is_still_the_demo() -> None:
    environ = {"OPENAI_API_KEY": "not\x07sendable", "OLLAMA_API_KEY": KEY}
    config = embedded(environ, found_ollama=False, types=TYPES)
    assert [provider.name for provider in config.providers] == ["demo"]


def test_a_config_without_providers_serves_what_is_found() -> None:
    config = parse(
        b"[log]\nkeep = 1", file="f", environ={"GROQ_API_KEY": KEY}, types=TYPES, find_ollama=lambda: True
    )
    assert [provider.name for provider in config.providers] == ["groq", "ollama", "demo"]


def test_a_config_with_providers_asks_nobody_whether_an_ollama_listens() -> None:
    def asked() -> bool:
        pytest.fail("it was asked")

    parse(b'[[providers]]\ntype = "demo"', file="f", environ={}, types=TYPES, find_ollama=asked)


@pytest.mark.parametrize(
    ("given_host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5", "http://127.0.0.1:5"),
        ("box", "http://box:11434"),
        ("https://box", "https://box:443"),
        ("http://box:99/", "http://box:99"),
        ("[::1]:7", "http://[::1]:7"),
        ("u:p@box", "http://127.0.0.1:11434"),
        ("box:notaport", "http://127.0.0.1:11434"),
        ("ftp://box", "http://127.0.0.1:11434"),
    ],
)
def test_an_ollama_is_looked_for_where_its_own_client_would(given_host: str, url: str) -> None:
    assert ollama_url({"OLLAMA_HOST": given_host}, types=TYPES) == url


def test_an_ollama_is_found_where_something_listens_and_only_there(tmp_path: Path) -> None:
    (tmp_path / "c.toml").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        environ = {"OLLAMA_HOST": url}
        assert load_without_file(environ, types=TYPES).providers[0].base_url == url
        assert load(str(tmp_path / "c.toml"), environ=environ, types=TYPES).providers[0].name == "ollama"
    assert not listens(url)
    assert [one.name for one in load_without_file(environ, types=TYPES).providers] == ["demo"]


def test_what_the_products_own_types_find_can_be_served_and_described() -> None:
    types = provider_types()
    environ = {facts.key_env: KEY for facts in types.values() if facts.key_env}
    config = embedded(environ, found_ollama=True, types=types)
    names = [provider.name for provider in config.providers]
    assert len(names) == len(set(names)) == len(describe(config, types=types))
    assert {"openai", "anthropic", "ollama", "demo"} <= set(names)
    for provider in config.providers:
        assert not provider.base_url or provider_url(provider.base_url) == provider.base_url


# --- the tables and the example -------------------------------------------------------------------

SECTIONS: list[tuple[type[msgspec.Struct], Mapping[str, object]]] = [
    (ServerConfig, reading.SERVER),
    (ProviderConfig, reading.PROVIDER),
    (FailoverConfig, reading.FAILOVER),
    (LogConfig, reading.LOG),
    (McpConfig, reading.MCP),
    (McpServer, tools.SERVER),
    (Quirks, reading.QUIRKS),
    (PolicyConfig, callers.POLICY),
    (AllowConfig, callers.ALLOW),
    (AgentConfig, callers.AGENT),
    (RateConfig, callers.RATE),
    (BudgetConfig, callers.BUDGET),
    (PriceConfig, prices.PRICE),
]


@pytest.mark.parametrize(("kind", "rules"), SECTIONS, ids=lambda one: getattr(one, "__name__", ""))
def test_every_setting_has_a_rule_and_every_rule_a_setting(
    kind: type[msgspec.Struct], rules: Mapping[str, object]
) -> None:
    assert set(rules) == set(kind.__struct_fields__)


def _example(*, whole: bool) -> Config:
    """The example; with `whole` the settings that stand in comments too."""
    text = EXAMPLE.read_text()
    if whole:
        text = re.sub(r"^# (?=[a-z_]+ = |\[\[)", "", text, flags=re.MULTILINE)
    environ = {
        "OPENAI_API_KEY": KEY,
        "MODELPLEX_INTERNAL_TOKEN": KEY,
        "SEARCH_TOKEN": KEY,
        "CODER_TOKEN": f"{KEY}-of-coder",
    }
    return read(text, **environ)


def test_the_example_is_a_config() -> None:
    assert [provider.name for provider in _example(whole=False).providers] == ["openai", "demo"]


def test_the_example_shows_every_key() -> None:
    text = re.sub(r"^# (?=[a-z_]+ = |\[\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    tree = tomllib.loads(text)
    assert set(tree) == set(Config.__struct_fields__) - {"path"}
    shown = {
        ServerConfig: tree["server"],
        ProviderConfig: tree["providers"][0],
        Quirks: tree["providers"][0]["quirks"],
        PolicyConfig: tree["policy"],
        AllowConfig: tree["policy"]["allow"],
        AgentConfig: tree["agents"][0],
        RateConfig: tree["agents"][0]["rate"],
        BudgetConfig: tree["agents"][0]["budget"],
        PriceConfig: tree["prices"][0],
        FailoverConfig: tree["failover"],
        LogConfig: tree["log"],
        McpConfig: tree["mcp"],
        McpServer: {**tree["mcp"]["servers"][0], **tree["mcp"]["servers"][1]},
    }
    assert set(shown) == {kind for kind, _ in SECTIONS}
    for kind, table in shown.items():
        assert set(table) == set(kind.__struct_fields__), kind.__name__
    assert _example(whole=True).server.socket == ("./modelplex.socket",)


def test_the_example_shows_the_defaults() -> None:
    example = _example(whole=False)
    assert example.server == ServerConfig()
    assert example.failover == FailoverConfig()
    assert example.log == LogConfig()
    assert example.policy == PolicyConfig()
    assert example.agents == ()
    assert not example.mcp.enabled
    openai = example.providers[0]
    plain = ProviderConfig(name="openai", type="openai", base_url=openai.base_url)
    assert msgspec.structs.replace(openai, api_key=(), models=(), quirks={}) == plain
    assert openai.base_url == TYPES["openai"].default_base_url
    assert openai.quirks == msgspec.structs.asdict(Quirks())


def test_every_key_of_the_example_is_explained() -> None:
    """A comment stands above each key, or above the run of keys or the table that it belongs to."""
    explained = False
    for line in EXAMPLE.read_text().splitlines():
        if re.match(r"(# )?[a-z_]+ = ", line):
            assert explained, line
        elif not line.startswith("["):
            explained = line.startswith("#")


def test_sizes_and_times_are_finite_by_default() -> None:
    for kind in (ServerConfig, FailoverConfig, LogConfig):
        values = msgspec.structs.asdict(kind()).values()
        assert all(math.isfinite(value) for value in values if isinstance(value, (int, float)))


# --- prices ---------------------------------------------------------------------------------------

PRICED = '[[providers]]\ntype = "demo"\n[[prices]]\nmodel = "m"\ninput = 1\noutput = 2.5\n'


def test_own_prices_are_read() -> None:
    (entry,) = read(PRICED + 'provider = "demo"\ncached_input = 0\n').prices
    assert entry == PriceConfig(model=("m",), provider="demo", input=1.0, output=2.5, cached_input=0.0)
    assert read(PRICED.replace('"m"', '["a", "b-*"]')).prices[0].model == ("a", "b-*")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            PRICED.replace("input = 1\n", ""),
            "prices[0].input: expected US dollars per million tokens of input",
        ),
        (PRICED.replace("input = 1\n", "input = -1\n"), "a number from 0 to"),
        (PRICED.replace("input = 1\n", "input = nan\n"), "a number from 0 to"),
        (PRICED.replace("input = 1\n", "input = true\n"), "a number from 0 to"),
        (PRICED.replace('model = "m"\n', "model = []\n"), "found an empty list"),
        (PRICED + 'provider = "dmo"\n', 'did you mean "demo"?'),
        (PRICED + "per_call = 1\n", "per_call"),
        (PRICED.replace("[[prices]]", "[prices]"), "each begins with [[prices]]"),
    ],
)
def test_prices_that_cannot_be_are_told_of(text: str, said: str) -> None:
    assert said in fault(text)


def test_unpriced_models_are_refused_only_where_dollars_are_counted() -> None:
    agent = '[[providers]]\ntype = "demo"\n[[agents]]\nname = "a"\ntoken = "long-token-1"\non_unpriced = "refuse"\n'
    assert read(agent + "budget = { usd = 1 }\n").agents[0].on_unpriced == "refuse"
    for budget in ("", "budget = { tokens = 5 }\n"):
        assert "a budget with usd beside it" in fault(agent + budget)
