"""Who may ask which server for what."""

import pytest

from modelplex.core.caller import Caller
from modelplex.mcp.policy import (
    Decision,
    any_of_server,
    decide,
    permitted,
    whole_server,
)


def caller(*tools: str) -> Caller:
    return Caller(listener="unix:/s", kind="unix", tools=tools)


def call(
    name: str = "status", *, tools: tuple[str, ...] = (), globs: tuple[str, ...] = (), **facts: object
) -> Decision:
    return decide(caller(*tools), server="git", method="tools/call", name=name, globs=globs, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("globs", "name", "allowed"),
    [
        ((), "anything", True),
        (("read_*",), "read_file", True),
        (("read_*",), "write_file", False),
        (("read_*",), "READ_FILE", False),
        (("!write_*",), "read_file", True),
        (("!write_*",), "write_file", False),
        (("*", "!write_*"), "write_file", False),
        (("!*", "read_file"), "read_file", False),
        (("file[0-9]",), "file1", True),
    ],
)
def test_a_denial_wins_and_without_allowances_the_rest_is_allowed(
    globs: tuple[str, ...], name: str, allowed: bool
) -> None:
    assert permitted(name, globs) is allowed
    assert call(name, globs=globs).allowed is allowed


def test_a_tool_that_the_host_denies_is_hidden() -> None:
    decision = call("push", globs=("!push",))
    assert (decision.verdict, decision.rule, decision.hidden) == ("deny", "server_tools", True)


def test_an_agent_has_the_tools_that_its_globs_name_as_it_sees_them() -> None:
    assert call(tools=("git__*",)).allowed
    assert call(tools=("git__status",)).allowed
    assert call(tools=("status",), shown="status").allowed
    assert call(tools=("*", "!git__status")).rule == "agent_tools"
    denied = call(tools=("fs__*",))
    assert (denied.rule, denied.hidden) == ("agent_tools", True)


def test_a_denied_tool_is_denied_by_each_of_its_names() -> None:
    assert not call(tools=("*", "!git__*"), shown="status").allowed
    assert not call(tools=("*", "!status"), shown="status").allowed


@pytest.mark.parametrize(
    ("state", "expected"), [("pending", "has not been approved"), ("changed", "has changed")]
)
def test_an_unapproved_tool_is_refused_with_the_reason(state: str, expected: str) -> None:
    decision = call(state=state, locked=True)
    assert (decision.verdict, decision.rule, decision.hidden) == ("deny", "pin", False)
    assert expected in decision.reason
    assert "modelplex mcp approve" in decision.reason
    assert call(state=state, locked=False).allowed


def test_a_hidden_tool_does_not_show_that_it_waits_for_approval() -> None:
    assert call(tools=("fs__*",), state="pending", locked=True).hidden


@pytest.mark.parametrize(
    ("tools", "rule"),
    [
        ((), "default"),
        (("git__*",), "default"),
        (("*",), "default"),
        (("git__status",), "agent_tools"),
        (("fs__*",), "agent_tools"),
    ],
)
def test_a_resource_needs_access_to_the_whole_server(tools: tuple[str, ...], rule: str) -> None:
    decision = decide(caller(*tools), server="git", method="resources/read", name="file:///a")
    assert decision.rule == rule
    assert decision.hidden is not decision.allowed


def test_a_prompt_is_chosen_by_the_agents_globs_but_not_by_the_servers_globs_of_tools() -> None:
    of = {"server": "git", "method": "prompts/get", "name": "review"}
    assert decide(caller(), **of, globs=("status",)).allowed  # type: ignore[arg-type]
    assert not decide(caller("git__status"), **of).allowed  # type: ignore[arg-type]


def test_a_server_is_whole_or_partly_an_agents() -> None:
    assert whole_server("git", ("git__*",))
    assert not whole_server("git", ("git__status",))
    assert any_of_server("git", ("git__status",))
    assert any_of_server("git", ("g*",))
    assert not any_of_server("git", ("fs__*",))
    assert not any_of_server("git", ("*", "!git__*"))
    assert any_of_server("git", ("*", "!git__push"))
    assert any_of_server("git", ("*status",))
    assert any_of_server("git", ("git__[a-c]*",))
    assert not any_of_server("git", ("gi__*", "gits*", "git_x", "status", "fs*"))


def test_without_prefixes_a_glob_without_a_servers_name_may_mean_any() -> None:
    assert any_of_server("git", ("status",), prefixed=False)
    assert any_of_server("git", ("fs*",), prefixed=False)
    assert not any_of_server("git", ("fs__*",), prefixed=False)
