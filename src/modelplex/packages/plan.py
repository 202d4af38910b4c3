"""Plans the mirror of one run: what it serves, at which addresses, and the variables that make
tools in the sandbox use and trust it. Time and randomness are arguments.

Inside the sandbox, the mirror answers at the addresses that the host's tools and the lock files
name, so that neither needs to be changed.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from modelplex.packages.allow_list import ListedPackage, LockedPackage
from modelplex.packages.certificate import make_certificate
from modelplex.packages.host_settings import NPM, PYPI, HostSettings, split_user
from modelplex.packages.lock_files import LockedAddress, LockFile
from modelplex.packages.names import Ecosystem
from modelplex.packages.process import MirrorSpec, SocketSpec
from modelplex.packages.sites import Site
from modelplex.packages.upstream import IndexSpec

FILES: Final = {PYPI: "https://files.pythonhosted.org"}
"""Where an index has its files, if not beside its pages: locks that are made inside name it."""
MAX_ORIGINS: Final = 64
"""Addresses that are answered. A lock file names two or three."""
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?")
_LOOPBACK: Final = re.compile(r"localhost|127(\.\d{1,3}){3}")
_NUMBERS: Final = re.compile(r"[\d.]+")
GATEWAY_PORT: Final = 11435


class PackagesFault(Exception):
    """Why there can be no mirror: a sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class MirrorRequest(NamedTuple):
    """`sources` are the addresses that the config names in place of the host's; `authority` is the
    path of the certificate inside the sandbox.
    """

    ecosystems: frozenset[Ecosystem]
    host: HostSettings
    sources: dict[Ecosystem, str]
    locks: Sequence[LockFile]
    listed: Sequence[ListedPackage]
    min_age: float
    folder: str
    authority: str


class MirrorPlan(NamedTuple):
    """ports    on the sandbox's loopback, with the mirror's socket behind each
    names    of hosts, which are 127.0.0.1 inside
    """

    spec: MirrorSpec
    ports: list[tuple[int, str]]
    names: list[str]
    environ: dict[str, str]
    authority: str


class _Addresses:
    """What is answered, by host and port."""

    def __init__(self) -> None:
        self.sites: dict[str, list[Site]] = {}
        self.ports: dict[int, bool] = {}
        """Whether it has TLS."""
        self.names: dict[str, None] = {}
        self.secure: dict[str, None] = {}

    def add(self, ecosystem: Ecosystem, url: str, *, is_file: bool = False) -> str:
        """Returns why it cannot be answered, or ""."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return "it is no address"
        tls = parts.scheme == "https"
        if not (tls or parts.scheme == "http") or not _HOST.fullmatch(host):
            return "it is no address of HTTP"
        if _NUMBERS.fullmatch(host) and not _LOOPBACK.fullmatch(host):
            return "its host is a number, which only a name or 127.0.0.1 may be"
        number = port or (443 if tls else 80)
        if number == GATEWAY_PORT or self.ports.get(number, tls) != tls:
            return f"its port {number} is taken inside"
        authority = host if number == (443 if tls else 80) else f"{host}:{number}"
        if len(self.sites) >= MAX_ORIGINS and authority not in self.sites:
            return f"there are more than {MAX_ORIGINS} addresses"
        site = Site(ecosystem, None if is_file else parts.path.rstrip("/"))
        sites = self.sites.setdefault(authority, [])
        if site not in sites:
            sites.append(site)
        self.ports[number] = tls
        if tls:
            self.secure[host] = None
        if not _LOOPBACK.fullmatch(host):
            self.names[host] = None
        return ""


def plan_mirror(
    request: MirrorRequest, *, now: dt.datetime, number_below: Callable[[int], int]
) -> MirrorPlan:
    """Raises PackagesFault."""
    addresses = _Addresses()
    indexes: dict[Ecosystem, tuple[IndexSpec, ...]] = {}
    bases: dict[Ecosystem, str] = {}
    environ = {"SSL_CERT_FILE": request.authority, "NODE_EXTRA_CA_CERTS": request.authority}
    if "pypi" in request.ecosystems:
        indexes["pypi"] = _pypi(request, addresses, environ)
        bases["pypi"] = environ["PIP_INDEX_URL"].rstrip("/")
    if "npm" in request.ecosystems:
        indexes["npm"] = _npm(request, addresses, environ)
        bases["npm"] = environ["npm_config_registry"].rstrip("/")
    places = {place for lock in request.locks for place in lock.places}
    for place in sorted(places, key=_order):
        if place.ecosystem in request.ecosystems:
            addresses.add(place.ecosystem, split_user(place.url)[0], is_file=place.is_file)
    certificate = make_certificate([*addresses.secure] or ["localhost"], now=now, number_below=number_below)
    sockets = {tls: os.path.join(request.folder, "tls" if tls else "plain") for tls in (True, False)}  # noqa: PTH118
    spec = MirrorSpec(
        indexes=indexes,
        bases=bases,
        locked=_locked(request.locks, request.ecosystems),
        listed=tuple(each for each in request.listed if each.ecosystem in request.ecosystems),
        sites={authority: tuple(sites) for authority, sites in addresses.sites.items()},
        sockets=tuple(SocketSpec(path, tls) for tls, path in sockets.items()),
        certificate=certificate.chain,
        folder=request.folder,
        min_age=request.min_age,
    )
    ports = [(port, sockets[tls]) for port, tls in addresses.ports.items()]
    return MirrorPlan(spec, ports, [*addresses.names], environ, certificate.authority)


def _order(place: LockedAddress) -> tuple[bool, str]:
    """Indexes first."""
    return place.is_file, place.url


def _locked(locks: Iterable[LockFile], ecosystems: frozenset[Ecosystem]) -> tuple[LockedPackage, ...]:
    return tuple(dict.fromkeys(p for lock in locks for p in lock.packages if p.ecosystem in ecosystems))


def _pypi(request: MirrorRequest, addresses: _Addresses, environ: dict[str, str]) -> tuple[IndexSpec, ...]:
    host, configured = request.host, request.sources.get("pypi")
    pip, uv = host.pip.url or PYPI, host.uv.url
    first, last = [*host.pip.more, *host.uv.more], host.uv.last
    for url in dict.fromkeys(filter(None, [pip, uv, *first, *last, PYPI])):
        bare = split_user(url)[0]
        why = addresses.add("pypi", bare)
        if why and url != PYPI:
            raise PackagesFault(f"the index {bare} cannot be mirrored: {why}.")
        if bare in FILES:
            addresses.add("pypi", FILES[bare], is_file=True)
    environ["PIP_INDEX_URL"] = split_user(pip)[0] + "/"
    environ |= {
        "PIP_CERT": request.authority,
        "REQUESTS_CA_BUNDLE": request.authority,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",  # its cache is in a file system of memory
    }
    if uv is not None:
        environ["UV_DEFAULT_INDEX"] = split_user(uv)[0]
    ca_file = host.pip.ca_file or host.uv.ca_file
    sources = [configured] if configured else [*first, host.pip.url or uv or PYPI, *last]
    made = [_index(each, ca_file, host) for each in sources]
    return tuple({each.url: each for each in reversed(made)}.values())[::-1]


def _npm(request: MirrorRequest, addresses: _Addresses, environ: dict[str, str]) -> tuple[IndexSpec, ...]:
    host, configured = request.host, request.sources.get("npm")
    registry = host.npm.url or NPM
    bare = split_user(registry)[0]
    scopes: Mapping[str, str] = {} if configured else host.scopes
    for url in (bare, *(split_user(each)[0] for each in scopes.values())):
        if why := addresses.add("npm", url):
            raise PackagesFault(f"the registry {url} cannot be mirrored: {why}.")
    addresses.add("npm", NPM)
    environ |= {
        "npm_config_registry": f"{bare}/",
        "npm_config_cafile": request.authority,
        # What needs more than packages would only fail.
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_update_notifier": "false",
    }
    ca_file = host.npm.ca_file
    made = [_index(url, ca_file, host, is_npm=True, scope=scope) for scope, url in scopes.items()]
    return (_index(configured or registry, ca_file, host, is_npm=True), *made)


def _index(
    source: str, ca_file: str | None, host: HostSettings, *, is_npm: bool = False, scope: str = ""
) -> IndexSpec:
    """A user and password in the address come before the host's other settings."""
    url, authorization = split_user(source)
    trusted = ca_file if ca_file is not None and os.path.isfile(ca_file) else None  # noqa: PTH113
    return IndexSpec(url, authorization or host.authorization(url, is_npm=is_npm), trusted, scope)
