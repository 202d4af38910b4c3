"""A config from TOML: what each table means, and the faults of the whole."""

import itertools
import json
import re
from collections.abc import Iterator

import msgspec
import pytest

from modelplex.config import (
    ConfigError,
    FailoverConfig,
    LogConfig,
    McpConfig,
    McpServer,
    ProviderConfig,
    Secret,
    ServerConfig,
    hide,
    parse,
    redacted,
)
from modelplex.config.read import MAX_FILE
from tests.config.configs import KEY, TYPES, fault, faults, read

DOCUMENTED = """\
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


def test_the_documented_config_is_read() -> None:
    config = read(DOCUMENTED, OPENAI_API_KEY=KEY)
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


def test_every_subset_of_the_documented_config_is_read() -> None:
    subsets = list(_subsets(DOCUMENTED))
    assert len(subsets) == 8 + 4 + 48 + 4
    for text in subsets:
        config = read(text, OPENAI_API_KEY=KEY)
        assert config.providers[0] == msgspec.structs.replace(
            read(DOCUMENTED, OPENAI_API_KEY=KEY).providers[0], models=config.providers[0].models
        )


def test_an_empty_config_has_defaults_and_the_detected_providers() -> None:
    config = read("")
    assert (config.server, config.failover, config.log) == (ServerConfig(), FailoverConfig(), LogConfig())
    assert [provider.name for provider in config.providers] == ["demo"]


def test_a_socket_without_http_disables_http() -> None:
    assert read('[server]\nsocket = "a.sock"').server.http == ()
    assert read('[server]\nsocket = ["a.sock", "b.sock"]').server.socket == ("a.sock", "b.sock")
    both = read('[server]\nsocket = "a.sock"\nhttp = ":80"').server
    assert (both.http, both.socket) == (("127.0.0.1:80",), ("a.sock",))


def test_a_config_without_a_listener_is_rejected() -> None:
    assert fault("[server]\nhttp = []").startswith("config.toml:2: server.http: expected somewhere to listen")


def test_an_alias_names_one_model_or_several() -> None:
    text = '[aliases]\nfast = "groq/llama"\n"gpt-4.1" = ["openai/gpt-4.1", "llama"]'
    assert read(text).aliases == {"fast": ("groq/llama",), "gpt-4.1": ("openai/gpt-4.1", "llama")}


def test_variables_are_expanded_in_every_string() -> None:
    text = '[server]\nsocket_group = "g-${TEAM}-$$x"\n[aliases]\na = ["$1", "${TEAM}/$${TEAM}"]'
    config = read(text, TEAM="red")
    assert (config.server.socket_group, config.aliases["a"]) == ("g-red-$x", ("$1", "red/${TEAM}"))


def test_a_byte_order_mark_and_carriage_returns_are_ignored() -> None:
    content = b'\xef\xbb\xbf[server]\r\nlog_level = "debug"\r\n'
    assert parse(content, file="f", environ={}, types=TYPES).server.log_level == "debug"


def test_all_faults_are_reported_in_the_order_of_their_lines() -> None:
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
    found = faults(text.replace(",\n           ", ", "))
    assert [one.partition(": expected")[0] for one in found] == [
        "config.toml:2: server.log_levl",
        "config.toml:3: server.http[0]",
        "config.toml:4: server.priority",
        "config.toml:8: providers[0].api_key",
        "config.toml:11: providers[1].name",
        "config.toml:12: providers[1].type",
        "config.toml:13: providers[1].quirks.output_limt",
        "config.toml:13: providers[1].quirks.system_role",
    ]
    assert found[0].endswith('expected a known key, found "log_levl"; did you mean "log_level"?')
    assert found[1].endswith(
        'found "8080"; a port alone needs a colon before it: ":8080" means port 8080 of localhost'
    )
    assert found[2].endswith("it belongs in one of [[providers]]")
    assert found[3].endswith("expected the environment variable OPENAI_API_KEY to be set, found it unset")
    assert found[4].endswith('found "openai" again; the first is on line 7')
    assert found[5].endswith('did you mean "openai"?')


@pytest.mark.parametrize(
    ("text", "line", "report"),
    [
        ("[server]\nlog_level =\n", 2, "invalid value"),
        ("[server]\n\n[server]", 3, "twice"),
        ('a = "x', 1, "TOML"),
        ("a = [\n1,\n", 2, "TOML"),
        (f"\na = {'9' * 5000}", None, "TOML"),
    ],
)
def test_invalid_toml_is_reported_with_its_line(text: str, line: int | None, report: str) -> None:
    place = "config.toml" if line is None else f"config.toml:{line}"
    assert fault(text).startswith(f"{place}: expected TOML, found ")
    assert report in fault(text)


def test_invalid_utf8_is_reported_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^f:2: expected text in UTF-8"):
        parse(b'a = 1\nb = "\xff"', file="f", environ={}, types=TYPES)


def test_deep_nesting_is_a_fault() -> None:
    assert "nested too deeply" in fault(f"a = {'[' * 5000}{']' * 5000}")


def test_a_file_that_is_too_large_is_rejected() -> None:
    assert "at most" in fault("#" * (MAX_FILE + 1))


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (
            "[server]\nmax_request_size = 70000\n[mcp]\nmax_message = 70001",
            "mcp.max_message: expected at most 70000 bytes, which is [server] max_body_memory_per_caller, found 70001",
        ),
        ("server = 3", "server: expected a table, found a number"),
        ('log_level = "info"', "log_level: expected a known key"),
        ('log_lvl = "info"', 'did you mean "log_level", which belongs in [server]?'),
        ("[sever]", 'did you mean "server"?'),
        ("[log]\nfile = 1979-05-27", "found a date or time"),
        ("[log]\nbodies = 1", "expected true or false, found 1"),
        ('[aliases]\ngpt-4.1 = "x"', "a name with a dot in it needs quotes"),
        ("[aliases]\na = []", "found an empty list"),
        ('[aliases]\n"" = "a"', "a name that clients can request"),
        ("[failover]\nmax_attempts = 0", "attempts, a whole number from 1"),
        (
            '[aliases]\na = "${not a name}"',
            "expected ${NAME} with a variable's name; write $$ for a $ itself",
        ),
    ],
)
def test_a_wrong_value_is_reported_with_the_expected_one(text: str, report: str) -> None:
    assert report in fault(text)


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


def test_a_config_without_providers_gets_the_detected_ones() -> None:
    config = parse(
        b"[log]\nkeep = 1", file="f", environ={"GROQ_API_KEY": KEY}, types=TYPES, find_ollama=lambda: True
    )
    assert [provider.name for provider in config.providers] == ["groq", "ollama", "demo"]


def test_a_config_with_providers_does_not_look_for_an_ollama() -> None:
    def find() -> bool:
        pytest.fail("it looked")

    parse(b'[[providers]]\ntype = "demo"', file="f", environ={}, types=TYPES, find_ollama=find)
