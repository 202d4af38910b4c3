"""The table [mcp] and its servers, and the secrets of a server."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.config import Config, ConfigError, McpServer, Secret, parse, provider_types, redacted
from modelplex.config.summary import summary
from modelplex.config.tools import credentials, secrets

HIDDEN_WORD = "very-secret"


def read(text: str) -> Config:
    return parse(text.encode(), file="config.toml", environ={"TOKEN": HIDDEN_WORD}, types=provider_types())


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [str(fault) for fault in caught.value.faults]


def server(line: str) -> str:
    return f'[[mcp.servers]]\nname = "git"\ncommand = "g"\n{line}'


def test_every_key_of_a_server_is_read() -> None:
    config = read(
        """
        [mcp]
        enabled = true
        prefix = false
        name_limit = 48
        stdio_socket = "./mcp.socket"
        pinning = "locked"
        search = "auto"
        meta = []
        [[mcp.servers]]
        name = "git-2"
        command = "mcp-server-git"
        args = ["--token", "${TOKEN}"]
        env = { GIT_TOKEN = "${TOKEN}" }
        cwd = "work"
        protocol = "legacy"
        tools = ["git_*", "!git_push"]
        timeout = 5
        start = "eager"
        idle_stop = 0
        scope = "agent"
        network = false
        allow = ["sampling", "elicitation"]
        roots = ["/work", "/tmp/x"]
        idempotent = ["git_log"]
        """
    )
    assert (config.mcp.prefix, config.mcp.name_limit, config.mcp.search, config.mcp.meta) == (
        False,
        48,
        "auto",
        (),
    )
    assert config.mcp.servers == (
        McpServer(
            name="git-2",
            command="mcp-server-git",
            args=(Secret("--token"), Secret(HIDDEN_WORD)),
            env={"GIT_TOKEN": Secret(HIDDEN_WORD)},
            cwd="work",
            protocol="legacy",
            tools=("git_*", "!git_push"),
            timeout=5.0,
            start="eager",
            idle_stop=0.0,
            scope="agent",
            network=False,
            allow=("sampling", "elicitation"),
            roots=("/work", "/tmp/x"),
            idempotent=("git_log",),
        ),
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://h/mcp?key=${TOKEN}",
        "http://127.0.0.1:9/mcp",
        "http://[::1]/",
        "unix:/run/mcp.socket",
        "https://h",
    ],
)
def test_a_server_may_have_a_url(url: str) -> None:
    (only,) = read(
        f'[[mcp.servers]]\nname = "x"\nurl = "{url}"\nheaders = {{ X-Key = "${{TOKEN}}" }}'
    ).mcp.servers
    assert only.url
    assert only.headers["x-key"].reveal() == HIDDEN_WORD


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("[mcp]\nserver = []", 'mcp.server: expected a known key, found "server"; did you mean "servers"?'),
        (server("scop = 1"), 'expected a known key, found "scop"; did you mean "scope"?'),
        (server('protocol = "new"'), 'expected "auto" or "legacy" or "modern"'),
        (server('start = "now"'), 'expected "lazy" or "eager"'),
        (server('scope = "user"'), 'expected "shared" or "session" or "agent"'),
        (
            server('allow = ["tools"]'),
            'expected "sampling" or "elicitation" or "roots" or "tasks", found "tools"',
        ),
        (server('allow = ["sampling", "sampling"]'), "expected each of these once"),
        (server('roots = ["work"]'), "expected an absolute path of a folder"),
        (server('roots = ["/work/../etc"]'), "expected an absolute path of a folder, without .."),
        (server('tools = ["!"]'), "expected the name of a tool, or a glob"),
        (server('tools = "git_*"'), "expected a list of tool names or globs"),
        (server('idempotent = ["!x"]'), "expected the name of a tool, or a glob"),
        (server("timeout = 0"), "expected seconds, a number above 0"),
        (server("idle_stop = -1"), "expected seconds, a number of at least 0"),
        (server("timeout = 601"), "seconds of at most 600, found 601; [mcp] max_call_time ends every call"),
        (server('headers = { a = "b" }'), "expected a url beside it"),
        (
            '[[mcp.servers]]\nname = "a"\nurl = "https://h"\nnetwork = false',
            "network: expected a command beside it",
        ),
        ('[[mcp.servers]]\nname = "a"\nurl = "https://h"\nenv = {}', "env: expected a command beside it"),
        ('[[mcp.servers]]\nname = "a"\nurl = "unix:"', "begins with https:// or http://"),
        ('[[mcp.servers]]\nname = "a"\nurl = "https://u:p@h"', "without user and password"),
        (
            '[[mcp.servers]]\nname = "a"\nurl = "https://h"\nheaders = { Mcp-Session-Id = "1" }',
            "sets itself",
        ),
        ('[[mcp.servers]]\nname = "Git"\ncommand = "g"', "at most 24 lower-case letters, digits and dashes"),
        (
            '[[mcp.servers]]\nname = "git_a"\ncommand = "g"',
            "at most 24 lower-case letters, digits and dashes",
        ),
        (f'[[mcp.servers]]\nname = "{"a" * 25}"\ncommand = "g"', "at most 24 lower-case letters"),
        (server("") + server(""), 'expected a name of its own, found "git" again; the first is on line 2'),
        ("[mcp]\nname_limit = 35", "characters, a whole number from 36 to 128"),
        ("[mcp]\nmax_message = 10", "bytes, a whole number from 65536"),
        ("[mcp]\nmax_depth = 501", "levels, a whole number from 8 to 500"),
        ("[mcp]\nmax_in_flight = 0", "a whole number from 1"),
        ('[mcp]\nsearch = "yes"', 'expected "auto" or "on" or "off"'),
        ('[mcp]\npinning = "lock"', 'did you mean "locked"?'),
        ('[mcp]\nprefix = ""', "mcp.prefix: expected true or false"),
        (
            "[mcp]\nprobe_timeout = 30",
            "at most start_timeout, found 30, and a start_timeout of 20",
        ),
        ("[mcp.servers]\na = 1", "each begins with [[mcp.servers]]"),
        ('[mcp]\nservers = [{command = "x"}]', "mcp.servers[0].name: expected a name"),
        ('[mcp]\nservers = [{name = "x"}]', "found neither"),
        ('[mcp]\nservers = [{name = "x", command = "c", url = "https://x"}]', "found both"),
        ('[mcp]\nservers = [{name = "x", url = "ftp://x"}]', "begins with https:// or http://"),
        ('[mcp]\nservers = [{name = "x", url = "https://x", cwd = "/"}]', "expected a command beside it"),
        ('[mcp]\nservers = [{name = "x", command = "c", headers = {}}]', "expected a url beside it"),
        ('[mcp]\nservers = [{name = "x", command = "c", env = {"a=b" = ""}}]', "a variable's name"),
    ],
)
def test_a_wrong_value_is_reported_with_the_expected_one(text: str, report: str) -> None:
    (fault,) = faults(text)
    assert report in fault


def test_a_default_is_not_a_fault() -> None:
    assert read(server("") + "\n[mcp]\nmax_call_time = 10\nstart_timeout = 1").mcp.servers[0].timeout == 60.0


SECRETIVE = """
[mcp]
enabled = true
[[mcp.servers]]
name = "a"
command = "mcp-a"
args = ["${TOKEN}"]
env = { KEY = "${TOKEN}" }
[[mcp.servers]]
name = "b"
url = "https://example.com:8443/${TOKEN}?key=${TOKEN}"
headers = { authorization = "Bearer ${TOKEN}" }
protocol = "modern"
scope = "agent"
tools = ["read_*", "!read_x"]
allow = ["sampling"]
roots = ["/w"]
"""


def test_no_form_of_the_config_shows_a_secret() -> None:
    config = read(SECRETIVE)
    forms = [repr(config), json.dumps(redacted(config)), *summary(config)]
    assert [form for form in forms if HIDDEN_WORD in form] == []
    assert msgspec.json.encode(redacted(config)["mcp"]).count(b"********") == 4


def test_the_summary_has_each_server() -> None:
    lines = summary(read(SECRETIVE))
    at = lines.index("tool servers (pinning: auto, search: off):")
    assert lines[at + 1 :] == [
        "  a (mcp-a): protocol auto, shared, tools: all",
        "  b (https://example.com:8443): protocol modern, agent, tools: read_*, !read_x; may request sampling; roots: /w",
    ]


def test_secrets_leave_out_plain_arguments() -> None:
    def of(*args: str, **more: Any) -> set[str]:
        return set(secrets(McpServer(name="a", args=tuple(Secret(arg) for arg in args), **more)))

    assert of("--api-key", "abc", "--token=def", "--verbose", "file.txt") == {"abc", "def"}
    assert of("-y", "mcp-server-git", "--repository", "/work/repository-of-2026-with-long-name") == set()
    assert of("ghp_0123456789abcdefABCD") == {"ghp_0123456789abcdefABCD"}
    assert of("postgresql://user:password@host/base") == {"postgresql://user:password@host/base"}
    url = "https://example.org/mcp?key=0123456789"
    assert of(url=Secret(url), env={"A": Secret("in env")}) == {url, "0123456789", "in env"}


def test_credentials_leave_out_what_a_result_may_contain() -> None:
    server = McpServer(
        name="a",
        args=(Secret("--token"), Secret("abc"), Secret("/work")),
        env={"API_KEY": Secret("named"), "MODE": Secret("plain"), "X": Secret("ghp_0123456789abcdefABCD")},
        headers={"authorization": Secret("Bearer of-header")},
        url=Secret("https://h/mcp?key=of-query"),
    )
    assert set(credentials(server)) == {
        *("abc", "named", "ghp_0123456789abcdefABCD", "of-query"),
        *("Bearer of-header", "of-header"),
    }
