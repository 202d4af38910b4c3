from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest

from modelplex.packages.host_settings import HostIndex, HostSettings
from modelplex.packages.lock_files import LockedAddress, LockFile
from modelplex.packages.names import Ecosystem
from modelplex.packages.plan import MirrorPlan, MirrorRequest, PackagesFault, plan_mirror
from modelplex.packages.sites import Site

BOTH: frozenset[Ecosystem] = frozenset({"pypi", "npm"})


def _plan(pip: str | None = None, npm: str | None = None, uv: str | None = None, **more: Any) -> MirrorPlan:
    given: dict[str, Any] = {
        "ecosystems": BOTH,
        "host": HostSettings(HostIndex(pip), HostIndex(uv), HostIndex(npm)),
        "sources": {},
        "locks": [],
        "listed": [],
        "min_age": 0.0,
        "folder": "/run/x",
        "authority": "/ca.pem",
    }
    request = MirrorRequest(**(given | more))
    return plan_mirror(
        request, now=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), number_below=random.Random(1).randrange
    )


def test_the_defaults_are_the_public_indexes() -> None:
    plan = _plan()
    assert {kind: spec.url for kind, (spec,) in plan.spec.indexes.items()} == {
        "pypi": "https://pypi.org/simple",
        "npm": "https://registry.npmjs.org",
    }
    assert plan.names == ["pypi.org", "files.pythonhosted.org", "registry.npmjs.org"]
    assert plan.ports == [(443, "/run/x/tls")]
    assert plan.environ["PIP_INDEX_URL"] == "https://pypi.org/simple/"
    assert plan.environ["npm_config_registry"] == "https://registry.npmjs.org/"
    assert "UV_DEFAULT_INDEX" not in plan.environ


def test_the_hosts_own_indexes_are_mirrored() -> None:
    plan = _plan("https://me:secret@pip.example/simple/", "http://npm.example:4873", "https://uv.example/s")
    assert plan.spec.indexes["pypi"][0].url == "https://pip.example/simple"
    assert plan.spec.indexes["pypi"][0].authorization is not None
    assert "secret" not in repr((plan.environ, plan.names, plan.spec.sites))
    assert plan.environ["UV_DEFAULT_INDEX"] == "https://uv.example/s"
    assert plan.spec.sites["npm.example:4873"] == (Site("npm", ""),)
    assert (4873, "/run/x/plain") in plan.ports


def test_the_config_may_name_another_source() -> None:
    """The addresses inside stay those of the tools."""
    plan = _plan("https://pip.example/simple", sources={"pypi": "https://other.example/s"})
    assert plan.spec.indexes["pypi"][0].url == "https://other.example/s"
    assert plan.environ["PIP_INDEX_URL"] == "https://pip.example/simple/"
    assert "other.example" not in plan.names


def test_more_indexes_and_scopes_are_mirrored_and_their_keys_stay_outside() -> None:
    host = HostSettings(
        HostIndex("https://pip.example/s", None, ("https://me:p1@more.example/s/",)),
        HostIndex(None, None, ("https://more.example/s", "https://uv.example/s"), ("https://last.example",)),
        HostIndex(None),
        {"@a": "https://npm.example/a/"},
        {"//npm.example/": "Bearer t1", "//registry.npmjs.org/": "Bearer t2"},
        {"uv.example": "Basic t3"},
    )
    plan = _plan(host=host)
    pypi, npm = plan.spec.indexes["pypi"], plan.spec.indexes["npm"]
    assert [(each.url, each.authorization) for each in pypi] == [
        ("https://more.example/s", "Basic bWU6cDE="),
        ("https://uv.example/s", "Basic t3"),
        ("https://pip.example/s", None),
        ("https://last.example", None),
    ]
    assert [(each.url, each.authorization, each.scope) for each in npm] == [
        ("https://registry.npmjs.org", "Bearer t2", ""),
        ("https://npm.example/a", "Bearer t1", "@a"),
    ]
    assert {"more.example", "uv.example", "last.example", "npm.example"} <= set(plan.names)
    shown = repr((plan.environ, plan.names, plan.spec.sites, plan.spec.bases))
    assert not [secret for secret in ("p1", "t1", "t2", "t3", "bWU6") if secret in shown]
    only = _plan(host=host, sources={"pypi": "https://o.example", "npm": "https://o.example"})
    assert [[each.url for each in only.spec.indexes[kind]] for kind in ("pypi", "npm")] == [
        ["https://o.example"],
        ["https://o.example"],
    ]


def test_addresses_of_locks_are_answered() -> None:
    places = {
        LockedAddress("pypi", "https://lock.example/simple"),
        LockedAddress("pypi", "https://cdn.example:8443/a.whl", is_file=True),
        LockedAddress("npm", "https://old.example/npm"),
    }
    plan = _plan(locks=[LockFile((), frozenset(places))])
    assert {"lock.example", "cdn.example", "old.example"} <= set(plan.names)
    assert plan.spec.sites["cdn.example:8443"] == (Site("pypi", None),)
    assert (8443, "/run/x/tls") in plan.ports
    only = _plan(locks=[LockFile((), frozenset(places))], ecosystems=frozenset({"npm"}))
    assert "lock.example" not in only.names
    assert set(only.spec.indexes) == {"npm"}


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:11435/x", "https://10.0.0.1/x", "ftp://a.example", "https://a.example:x", "x"),
        *(
            "https://a b/x",
            "https://a\n127.0.0.1 b/x",
            "https://[::1]/x",
            "http://a.example:443/x",
            "https://",
        ),
    ],
)
def test_an_address_that_cannot_be_answered_is_left_out_of_a_lock(url: str) -> None:
    assert (
        _plan(locks=[LockFile((), frozenset({LockedAddress("pypi", url)}))]).spec.sites == _plan().spec.sites
    )
    with pytest.raises(PackagesFault, match="cannot be mirrored"):
        _plan(pip=url)


def test_a_lock_names_so_many_addresses_at_most() -> None:
    places = frozenset(LockedAddress("pypi", f"https://a{number}.example/x") for number in range(200))
    assert len(_plan(locks=[LockFile((), places)]).spec.sites) == 64
