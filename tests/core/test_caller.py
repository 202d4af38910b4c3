"""What a caller may use, and who owns what is stored for it."""

from modelplex.core.caller import Caller


def test_the_owner_is_the_agent_or_the_listener() -> None:
    assert Caller(listener="unix:/a", kind="unix", agent="coder").owner == "agent:coder"
    assert Caller(listener="unix:/a", kind="unix").owner == "unix:/a"


def test_models_are_globs_and_none_means_all() -> None:
    anybody = Caller(listener="tcp:1", kind="tcp")
    assert anybody.may_use("anything")
    agent = Caller(listener="tcp:1", kind="tcp", models=("gpt-*", "acme/x"))
    assert agent.may_use("gpt-5")
    assert agent.may_use("acme/x")
    assert not agent.may_use("acme/y")
    assert not agent.may_use("GPT-5"), "case counts"
