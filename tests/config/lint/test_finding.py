"""A finding's place: in the file, of the command line, or of the whole."""

from pathlib import Path

from modelplex.config import ConfigFault, load
from modelplex.config.lint.finding import LintContext, findings_of

TEXT = """[server]
socket = ["a.sock", "b.sock"]
[[providers]]
type = "demo"
headers = { x-a = "1", x-b = "$N" }
"""


def context(*, overridden: tuple[str, ...] = ()) -> LintContext:
    Path("c.toml").write_text(TEXT)
    return LintContext(load("c.toml", environ={}), environ={}, overridden=overridden)


def test_a_finding_has_its_line_key_and_code() -> None:
    finding = context().error(
        "bad-socket", ("server", "socket", 1), "it is bad", "replace it", option="--socket"
    )
    assert str(finding) == "c.toml:2: error: server.socket[1]: it is bad; replace it [bad-socket]"
    assert str(context().warning("odd-file", (), "it is odd", "")) == "c.toml: warning: it is odd [odd-file]"


def test_a_setting_that_an_option_replaced_has_the_option_as_key() -> None:
    finding = context(overridden=("--socket",)).warning(
        "bad-socket", ("server", "socket", 1), "it is bad", "replace it", option="--socket"
    )
    assert (finding.file, finding.line, finding.key, finding.severity) == (None, None, "--socket", "warning")


def test_strings_are_as_written() -> None:
    found = context()
    assert list(found.strings("providers", 0, "headers")) == [
        (("providers", 0, "headers", "x-a"), "1"),
        (("providers", 0, "headers", "x-b"), "$N"),
    ]
    assert list(found.strings("server", "socket")) == [
        (("server", "socket", 0), "a.sock"),
        (("server", "socket", 1), "b.sock"),
    ]
    assert list(found.strings("server", "none")) == []
    assert found.element(1, "server", "socket") == ("server", "socket", 1)
    assert found.element(0, "providers", 0, "type") == ("providers", 0, "type")


def test_a_file_that_changed_since_it_was_loaded_has_no_lines() -> None:
    config = load(context().config.path or "", environ={})
    Path("c.toml").write_text("not toml")
    changed = LintContext(config, environ={})
    assert changed.raw("server") is None
    assert changed.error("bad-socket", ("server", "socket"), "it is bad", "").line is None


def test_faults_become_findings() -> None:
    fault = ConfigFault("c.toml", 3, "log.keep", expected="files", found="5", hint="write 6")
    (finding,) = findings_of([fault])
    assert str(finding) == "c.toml:3: error: log.keep: expected files, found 5; write 6 [invalid-config]"
