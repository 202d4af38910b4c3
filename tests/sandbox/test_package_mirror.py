"""`modelplex run --packages` with pip and uv, and with programs that try to send something out."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Generator
from dataclasses import replace

import pytest

from tests.packages.indexes import Index, index, sha256, wheel
from tests.sandbox.repositories import git, repository
from tests.sandbox.sandboxes import ROOT, Person

UV = ROOT / ".cache" / "uv"
PIP = [str(UV / "bin" / "python"), "-m", "pip"]
INSIDE = ["--ro", str(UV)]
ASK = """
import json, socket, sys
answers = []
for request in json.loads(sys.argv[2]):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(request.encode("latin-1"))
        answers.append(connection.recv(65536).decode("latin-1").partition("\\r\\n")[0])
print(json.dumps(answers))
"""
"""Sends each request to a port, and prints the status line of each response."""


@pytest.fixture
def pypi() -> Generator[Index]:
    with index() as found:
        yield found


def _environ(pypi: Index) -> dict[str, str]:
    """The host's own pip names the local index."""
    return {"PIP_INDEX_URL": f"{pypi.origin}/simple"}


def _config(who: Person, text: str) -> None:
    (who.folder / "config.toml").write_text(f'[[providers]]\ntype = "demo"\n{text}')


def test_pip_installs_what_the_requirements_pin(who: Person, pypi: Index) -> None:
    pinned = pypi.add_wheel("first-one", "1.0")
    pypi.add_wheel("second", "2.5")
    pypi.add_wheel("second", "3.0")
    (who.folder / "requirements.txt").write_text(f"First_One==1.0.0 --hash=sha256:{pinned}\n")
    (who.folder / "requirements-dev.txt").write_text("second == 2.5  # for tests\n")
    script = f"{' '.join(PIP)} install -q --target out -r requirements.txt && {' '.join(PIP)} install -q --target more -r requirements-dev.txt"
    done = who.run(*INSIDE, "--packages", "pypi", "--", "sh", "-c", script, environ=_environ(pypi))
    assert done.returncode == 0, done.stderr
    assert (who.folder / "out" / "first_one.py").read_text() == "version = '1.0'\n"
    assert (who.folder / "more" / "second.py").read_text() == "version = '2.5'\n"
    files = [line for line in pypi.asked if "/simple/" not in line and not line.endswith(".metadata")]
    assert files == [
        "GET /files/first_one-1.0-py3-none-any.whl",
        "GET /files/second-2.5-py3-none-any.whl",
    ]


def test_pip_gets_nothing_that_no_lock_names(me: Person, pypi: Index) -> None:
    pypi.add_wheel("known", "1.0")
    pypi.add_wheel("unknown", "1.0")
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    command = [*PIP, "download", "-q", "unknown"]
    done = me.run(*INSIDE, "--packages", "pypi", "--", *command, environ=_environ(pypi))
    assert done.returncode != 0
    assert "No matching distribution found for unknown" in done.stderr
    assert "names them: pypi:unknown (--allow-package NAME)" in done.stderr
    assert pypi.asked == []
    allowed = ["--allow-package", "pypi:unknown"]
    done = me.run(*INSIDE, "--packages", "pypi", *allowed, "--", *command, environ=_environ(pypi))
    assert done.returncode == 0, done.stderr
    assert (me.folder / "unknown-1.0-py3-none-any.whl").read_bytes() == wheel("unknown", "1.0")[1]


def test_a_file_with_a_wrong_hash_does_not_reach_the_sandbox(me: Person, pypi: Index) -> None:
    """Neither one that the index changed below its page, nor one that the lock does not name."""
    pypi.add_wheel("changed", "1.0")
    pypi.answers["/files/changed-1.0-py3-none-any.whl"] = (200, {}, b"something else")
    pypi.add_wheel("other", "1.0")
    (me.folder / "requirements.txt").write_text(
        f"changed==1.0\nother==1.0 --hash=sha256:{sha256(b'what the lock means')}\n"
    )
    for name in ("changed", "other"):
        command = [*PIP, "download", "-q", "--no-deps", f"{name}==1.0"]
        done = me.run(*INSIDE, "--packages", "pypi", "--", *command, environ=_environ(pypi))
        assert done.returncode != 0, name
        assert not list(me.folder.glob("*.whl"))
    assert not any("/files/other" in line for line in pypi.asked)


def test_uv_syncs_a_locked_project_without_a_change_of_the_lock(who: Person, pypi: Index) -> None:
    """The lock names PyPI's own addresses over https, and the config another index."""
    found = pypi.add_wheel("locked-one", "1.0")
    (who.folder / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["locked-one"]\n'
    )
    lock = who.folder / "uv.lock"
    lock.write_text(_uv_lock("https://pypi.org/simple", "https://files.pythonhosted.org/packages/aa", found))
    before = lock.read_text()
    _config(who, f'[packages]\npypi = "{pypi.origin}/simple"\n')
    command = [str(UV / "bin" / "uv"), "sync", "--python", str(UV / "bin" / "python")]
    for words in (command, [*command, "--locked", "--reinstall"]):
        done = who.run(*INSIDE, "--packages", "pypi", "--", *words)
        assert done.returncode == 0, done.stderr
        assert "Installed 1 package" in done.stderr
    assert lock.read_text() == before
    assert "GET /files/locked_one-1.0-py3-none-any.whl" in pypi.asked
    assert all(line.startswith("GET /") for line in pypi.asked)


def _uv_lock(registry: str, files: str, digest: str) -> str:
    return f"""version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "demo"
version = "0"
source = {{ virtual = "." }}
dependencies = [
    {{ name = "locked-one" }},
]

[package.metadata]
requires-dist = [{{ name = "locked-one" }}]

[[package]]
name = "locked-one"
version = "1.0"
source = {{ registry = "{registry}" }}
wheels = [
    {{ url = "{files}/locked_one-1.0-py3-none-any.whl", hash = "sha256:{digest}" }},
]
"""


def test_pip_uses_the_index_that_the_config_names(me: Person, pypi: Index) -> None:
    """Also where the index's files have other addresses than those that are answered inside."""
    pypi.add_wheel("known", "1.0")
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    _config(me, f'[packages]\npypi = "{pypi.origin}/simple"\n')
    done = me.run(*INSIDE, "--packages", "pypi", "--", *PIP, "install", "-q", "--target", "out", "known==1.0")
    assert done.returncode == 0, done.stderr


def test_a_private_index_is_asked_with_its_password_which_stays_outside(me: Person, pypi: Index) -> None:
    pypi.add_wheel("known", "1.0")
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    with index() as private:
        private.add_wheel("known", "1.0")
        settings = me.home / ".config" / "pip"
        settings.mkdir(parents=True)
        url = f"http://me:hidden-pass@127.0.0.1:{private.port}/simple"
        (settings / "pip.conf").write_text(f"[global]\nextra-index-url = {url}\n")
        script = f"{' '.join(PIP)} download -q known==1.0; env; grep -rs hidden-pass ~ /etc/pip.conf /run"
        done = me.run(*INSIDE, "--packages", "pypi", "--", "sh", "-c", script, environ=_environ(pypi))
        assert (me.folder / "known-1.0-py3-none-any.whl").exists(), done.stderr
        assert pypi.asked == []
        assert {headers["authorization"] for _, headers in private.requests} == {"Basic bWU6aGlkZGVuLXBhc3M="}
        assert "hidden-pass" not in done.stdout + done.stderr


def test_a_lock_file_of_the_repositorys_top_counts_in_its_folders(who: Person, pypi: Index) -> None:
    """As that of a workspace does, also in a linked worktree."""
    pypi.add_wheel("known", "1.0")
    project = repository(who.folder / "p")
    (project / "requirements.txt").write_text("known==1.0\n")
    (project / "member").mkdir()
    (project / "member" / "file").touch()
    for words in (["add", "-A"], ["commit", "-qm", "x"], ["worktree", "add", "-q", "../linked"]):
        git(project, *words)
    for path in who.folder.rglob("*"):
        who.give(path)
    for top in (project, who.folder / "linked"):
        here = replace(who, folder=top / "member")
        done = here.run(
            *INSIDE, "--packages", "pypi", "--", *PIP, "download", "-q", "known==1.0", environ=_environ(pypi)
        )
        assert (top / "member" / "known-1.0-py3-none-any.whl").exists(), done.stderr


HOSTILE = (
    "GET /simple/secret-in-a-name/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /simple/known/?secret=1 HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /simple/KNOWN HTTP/1.1\r\nHost: {host}\r\nUser-Agent: secret\r\nCookie: secret=1\r\nX-Secret: 1\r\n\r\n",
    "GET /simple/%6bnown/ HTTP/1.1\r\nHost: {host}\r\nAccept: secret/1\r\nRange: bytes=1-2\r\n\r\n",
    "GET /simple/kn..own/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /simple/known/../secret/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /simple/known%0d%0aX-Secret:1/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET http://secret.example/simple/known/ HTTP/1.1\r\nHost: secret.example\r\n\r\n",
    "GET /simple/known/ HTTP/1.1\r\nHost: secret.example\r\n\r\n",
    "GET /files/known-9.9-py3-none-any.whl HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /files/known-1.0-secret-none-any.whl HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /secret/path/known-1.0-py3-none-any.whl HTTP/1.1\r\nHost: {host}\r\nRange: bytes=7-9\r\n\r\n",
    "HEAD /simple/known/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    'GET /simple/known/ HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: "secret"\r\nIf-Range: "secret"\r\n\r\n',
    "GET /simple/known/ HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic secret\r\nReferer: http://secret/\r\n\r\n",
    "POST /simple/known/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nsecret",
    "PUT /simple/known/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nsecret",
    "DELETE /simple/known/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "CONNECT secret.example:443 HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "SECRET /simple/known/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
)


def test_no_request_carries_anything_out(me: Person, pypi: Index) -> None:
    """The index gets the same two requests, whatever is sent."""
    pypi.add_wheel("known", "1.0")
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    requests = [each.format(host=f"127.0.0.1:{pypi.port}") for each in HOSTILE]
    done = me.run(
        *(
            "--packages",
            "pypi",
            "--",
            str(UV / "bin/python"),
            "-c",
            ASK,
            str(pypi.port),
            json.dumps(requests),
        ),
        environ=_environ(pypi),
    )
    assert done.returncode == 0, done.stderr
    statuses = [int(re.split(" ", line)[1]) for line in json.loads(done.stdout)]
    assert statuses == [
        404,
        200,
        200,
        200,
        404,
        404,
        404,
        404,
        404,
        404,
        404,
        200,
        *[200] * 3,
        *[405] * 3,
        405,
        400,
        400,
    ]
    assert pypi.asked == ["GET /simple/known/", "GET /files/known-1.0-py3-none-any.whl"]
    assert "secret" not in json.dumps(pypi.requests).lower()
    for _, headers in pypi.requests:
        assert set(headers) == {"host", "user-agent", "accept-encoding", "accept"}


HOSTILE_TO_NPM = {
    "GET /npm/known HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: secret\r\nNpm-Session: secret\r\n\r\n": 200,
    "GET /npm/known?secret=1 HTTP/1.1\r\nHost: {host}\r\n\r\n": 200,
    "GET /npm/%6Bnown HTTP/1.1\r\nHost: {host}\r\nUser-Agent: secret\r\n\r\n": 200,
    "GET /npm/KNOWN HTTP/1.1\r\nHost: {host}\r\n\r\n": 403,
    "GET /npm/@secret%2fknown HTTP/1.1\r\nHost: {host}\r\n\r\n": 403,
    "GET /npm/known/secret HTTP/1.1\r\nHost: {host}\r\n\r\n": 404,
    "GET /npm/-/v1/search?text=secret HTTP/1.1\r\nHost: {host}\r\n\r\n": 404,
    "GET /npm/-/secret/dist-tags HTTP/1.1\r\nHost: {host}\r\n\r\n": 404,
    "GET /npm/known/-/known-1.0.0-secret.tgz HTTP/1.1\r\nHost: {host}\r\n\r\n": 403,
    "GET /secret/known/-/secret/known-1.0.0.tgz HTTP/1.1\r\nHost: {host}\r\nRange: bytes=3-4\r\n\r\n": 200,
    "PUT /npm/known HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nsecret": 405,
    "POST /npm/-/npm/v1/security/advisories/bulk HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nsecret": 405,
}


def test_no_request_to_npm_carries_anything_out(me: Person) -> None:
    with index() as npm:
        sums = npm.add_npm("known", "1.0.0")
        lock = {
            "lockfileVersion": 3,
            "packages": {"node_modules/known": {"version": "1.0.0", "integrity": sums}},
        }
        (me.folder / "package-lock.json").write_text(json.dumps(lock))
        requests = json.dumps([each.format(host=f"127.0.0.1:{npm.port}") for each in HOSTILE_TO_NPM])
        command = [str(UV / "bin/python"), "-c", ASK, str(npm.port), requests]
        environ = {"npm_config_registry": f"{npm.origin}/npm"}
        done = me.run("--packages", "npm", "--", *command, environ=environ)
        assert done.returncode == 0, done.stderr
        statuses = [int(line.split(" ")[1]) for line in json.loads(done.stdout)]
        assert dict(zip(HOSTILE_TO_NPM, statuses, strict=True)) == HOSTILE_TO_NPM
        assert npm.asked == ["GET /npm/known", "GET /npm/known/-/known-1.0.0.tgz"]
        assert "secret" not in json.dumps(npm.requests).lower()
        for _, headers in npm.requests:
            assert set(headers) == {"host", "user-agent", "accept-encoding", "accept"}


def test_the_index_cannot_lead_elsewhere(me: Person, pypi: Index) -> None:
    pypi.add_wheel("known", "1.0")
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    with index() as other:
        file = "/files/known-1.0-py3-none-any.whl"
        other.answers[file] = pypi.answers[file]
        pypi.answers[file] = (302, {"location": f"{other.origin}{file}"}, b"")
        command = [*PIP, "download", "-q", "--no-deps", "known==1.0"]
        done = me.run(*INSIDE, "--packages", "pypi", "--", *command, environ=_environ(pypi))
        assert done.returncode != 0
        assert other.asked == []
        pypi.answers["/files/moved"] = other.answers[file]
        pypi.answers[file] = (302, {"location": "moved"}, b"")
        done = me.run(*INSIDE, "--packages", "pypi", "--", *command, environ=_environ(pypi))
        assert done.returncode == 0, done.stderr


def test_a_release_must_have_the_minimum_age(me: Person, pypi: Index) -> None:
    pypi.add_wheel("young", "1.0", uploaded="2999-01-01T00:00:00Z")
    pypi.add_wheel("young", "0.9")
    (me.folder / "requirements.txt").write_text("young==1.0\n")
    words = [*INSIDE, "--packages", "pypi", "--min-age", "7d", "--allow-package", "pypi:young"]
    done = me.run(*words, "--", *PIP, "download", "-q", "young==1.0", environ=_environ(pypi))
    assert done.returncode != 0
    assert "withheld: pypi:young-1.0-py3-none-any.whl (it is too new)" in done.stderr
    done = me.run(*words, "--", *PIP, "download", "-q", "young", environ=_environ(pypi))
    assert done.returncode == 0, done.stderr
    assert [each.name for each in me.folder.glob("*.whl")] == ["young-0.9-py3-none-any.whl"]


def test_each_fetch_and_each_refusal_is_on_the_record(me: Person, pypi: Index) -> None:
    pypi.add_wheel("known", "1.0")
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    pip = " ".join([*PIP, "download", "-q", "--no-deps"])
    script = f"{pip} known==1.0; {pip} known==1.0; {pip} secret"
    done = me.run(*INSIDE, "--packages", "pypi", "--", "sh", "-c", script, environ=_environ(pypi))
    store = me.home / ".local" / "state" / "modelplex" / "records.sqlite"
    with sqlite3.connect(store) as database:
        rows = database.execute(
            "SELECT server, tool, outcome, run FROM calls WHERE endpoint = 'packages/get' ORDER BY started"
        ).fetchall()
    runs = {run for *_, run in rows}
    assert [tuple(rest) for *rest, _ in rows] == [
        ("pypi", "known", "ok"),
        ("pypi", "known-1.0-py3-none-any.whl.metadata", "ok"),
        ("pypi", "known-1.0-py3-none-any.whl", "ok"),
        ("pypi", "secret", "refused"),
    ]
    assert len(runs) == 1
    assert f"modelplex show {runs.pop()}" in done.stderr


def test_a_changed_lock_file_is_named_at_the_end(me: Person, pypi: Index) -> None:
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    script = "echo more==1.0 >> requirements.txt; echo more==1.0 > requirements-new.txt"
    done = me.run("--packages", "pypi", "--", "sh", "-c", script, environ=_environ(pypi))
    assert "something changed requirements.txt here, which the next start would trust" in done.stderr
    assert "the program made requirements-new.txt here" in done.stderr
    assert "requirements" not in me.run("--", "sh", "-c", script).stderr


def test_without_the_option_there_is_no_mirror(me: Person, pypi: Index) -> None:
    (me.folder / "requirements.txt").write_text("known==1.0\n")
    code = f"import socket; socket.create_connection(('127.0.0.1', {pypi.port}))"
    done = me.python(code, **_environ(pypi))
    assert "ConnectionRefusedError" in done.stderr
    assert "PIP_" not in me.run("--", "env", environ=_environ(pypi)).stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--packages", "cargo"], '--packages: "cargo" is no index: give pypi, npm, or both'),
        (["--packages", "pypi", "--min-age", "7"], '--min-age: "7" is no age: give a number and a unit'),
        (["--packages", "pypi", "--allow-package", "six"], '"six" is no package: write pypi:NAME'),
        (["--min-age", "7d"], "--min-age and --allow-package need --packages"),
    ],
)
def test_a_wrong_option_is_explained(me: Person, words: list[str], sentence: str) -> None:
    done = me.run(*words, "--", "true")
    assert done.returncode == 2
    assert sentence in done.stderr
