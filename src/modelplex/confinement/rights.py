"""The files and TCP ports that a gateway with this config uses.

Ports are those of every URL in the config, so that no new setting can be forgotten. Folders are
preferred to files: a file that is replaced is another one to Landlock. A home is never allowed as a
whole: what is there on its own must be written in place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import msgspec

import modelplex
from modelplex.config import Config
from modelplex.config.secret import Secret
from modelplex.config.settings import AwsAuth, EntraAuth, GcpAuth, KeyInFile, OidcAuth
from modelplex.config.state_folder import state_folder
from modelplex.confinement.landlock import Rights

SYSTEM: Final = (
    "/etc /lib /lib64 /usr/lib /usr/lib64 /usr/local/lib /usr/share/zoneinfo /usr/share/ca-certificates"
    " /usr/local/share/ca-certificates /var/lib/ca-certificates /proc /sys/devices/system/cpu"
    " /run/systemd/resolve /run/NetworkManager /run/resolvconf /run/secrets /var/run/secrets"
).split()
"""Libraries, names and addresses, time zones, certificates, and secrets that a container mounts.
/proc is read for metrics and for the network of a caller; its folder of this process alone would
not do, since the kernel makes its files anew. What it has of other processes' memory and
environment stays closed.
"""
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FILES_OF_ENVIRONMENT: Final = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "PGPASSFILE",
    "PGSSLROOTCERT",
    "REQUESTS_CA_BUNDLE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
)
"""Variables with the path of a file that is read while the gateway runs."""
USUAL_PORTS: Final = frozenset({53, 80, 443})
"""Of the resolver and of providers."""
PORTS: Final = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}


def rights_of(config: Config, *, environ: Mapping[str, str]) -> Rights:
    home = _home(environ)
    read = {path for path in [*SYSTEM, *_python(), *_read_files(config, environ)] if path}
    write = set(_write_folders(config, environ))
    return Rights(
        read=frozenset(_allowed(read, home)),
        write=frozenset(_allowed(write, home)),
        devices=frozenset(DEVICES),
        connect=frozenset(
            {*USUAL_PORTS, *urls_ports(config, environ), *sign_in_ports(config, environ=environ)}
        ),
        bind=frozenset(int(address.rpartition(":")[2]) for address in config.server.http),
        shared=frozenset(path for path in write if Path(path).is_dir()) - set(_allowed(write, home)),
    )


def socket_paths(config: Config) -> Iterator[str]:
    """The paths at which the gateway listens."""
    server = config.server
    yield from server.socket
    for path in (server.admin_socket, config.mcp.stdio_socket, *(agent.socket for agent in config.agents)):
        if path is not None:
            yield path


def state_folders(config: Config, *, environ: Mapping[str, str]) -> Iterator[str]:
    """That of the config, and the user's own, which has the sockets of runs."""
    for configured in {config.server.state_folder, None}:
        with suppress(RuntimeError):  # a user without a home
            yield str(state_folder(configured, environ=environ))


def needs_unix_sockets(config: Config) -> bool:
    """Whether a library of the gateway itself connects to Unix sockets: that of PostgreSQL."""
    place = "" if config.record.store is None else config.record.store.reveal()
    return "://" in place and (not urlsplit(place).hostname or "host=" in place)


def urls_ports(config: Config, environ: Mapping[str, str]) -> Iterator[int]:
    """The port of each URL in the config, and in the environment."""
    for text in (*_texts(config), *environ.values()):
        scheme, colon, _ = text.partition("://")
        if not colon or not scheme.isalnum():
            continue
        try:
            port = urlsplit(text).port
        except ValueError:
            continue
        port = PORTS.get(scheme.lower()) if port is None else port
        if port:
            yield port


def sign_in_ports(config: Config, *, environ: Mapping[str, str]) -> Iterator[int]:
    """Where the tokens of present sign-ins to tool servers are renewed."""
    servers = [server for server in config.mcp.servers if server.may_sign_in]
    if not servers:
        return
    from modelplex.credentials.source import CredentialError
    from modelplex.mcp.oauth.store import SignInFiles

    for folder in state_folders(config, environ=environ):
        files = SignInFiles(Path(folder))
        for server in servers:
            for agent in ("", *files.agents(server.name)):
                with suppress(CredentialError, ValueError):
                    kept = files.read(server.name, agent)
                    if kept is not None and (port := urlsplit(kept.token_endpoint).port):
                        yield port


def _texts(value: object) -> Iterator[str]:
    """Every text in a value, with what secrets hide."""
    match value:
        case str():
            yield value
        case Secret():
            yield value.reveal()
        case msgspec.Struct():
            for name in value.__struct_fields__:
                yield from _texts(getattr(value, name))
        case Mapping():
            of_any = cast("Mapping[object, object]", value)
            for each in (*of_any.keys(), *of_any.values()):
                yield from _texts(each)
        case tuple() | list() | frozenset() | set():
            for each in cast("Iterable[object]", value):
                yield from _texts(each)
        case _:
            pass


def _python() -> Iterator[str]:
    """Where modules are loaded from. Not the working folder, which `python -m` puts first."""
    here = os.getcwd()  # noqa: PTH109 - a string is compared
    yield from (sys.prefix, sys.base_prefix, str(Path(modelplex.__file__).parent))
    yield from (path for path in sys.path if path and path != here)
    import ssl

    paths = ssl.get_default_verify_paths()
    yield from (path for path in (paths.cafile, paths.capath) if path)


def _read_files(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    files = [environ.get(name, "") for name in FILES_OF_ENVIRONMENT]
    # Of systemd, with the credentials of this unit; beside it are those of others.
    yield environ.get("CREDENTIALS_DIRECTORY", "")
    if config.path is not None:
        files.append(str(Path(config.path).parent / config.mcp.lock_file))
    tokens = (admin.token for admin in config.server.admins)
    files += [token.path for token in tokens if isinstance(token, KeyInFile)]
    for provider in config.providers:
        files += [key.path for key in provider.api_key if isinstance(key, KeyInFile)]
        files += [provider.ca_file or "", provider.file or ""]
        match provider.auth:
            case OidcAuth():
                files.append(provider.auth.assertion_file or "")
            case EntraAuth():
                files.append(provider.auth.token_file)
            case GcpAuth():
                files.append(provider.auth.credentials_file)
                yield environ.get("CLOUDSDK_CONFIG", "") or _below_home(environ, ".config/gcloud")
            case AwsAuth():
                from modelplex.credentials.aws import aws_files, aws_home

                yield from (str(aws_home(environ)), *map(str, aws_files(environ)))
            case _:
                pass
    for server in config.mcp.servers:
        if server.auth is not None:
            files += [server.auth.private_key_file, server.auth.assertion_file]
    for file in files:
        yield from _with_folder(file)
    yield from (_below_home(environ, ".pgpass"), _below_home(environ, ".postgresql"))


def _write_folders(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    yield from state_folders(config, environ=environ)
    files = [config.log.file, config.server.keep_responses]
    store = None if config.record.store is None else config.record.store.reveal()
    if store is not None and "://" not in store:
        files.append(store)
    for file in files:
        if file and file != "memory":
            yield from _with_folder(file)


def _with_folder(file: str) -> Iterator[str]:
    """The file, where it really is, and the folders of both: Kubernetes replaces links."""
    if not file:
        return
    path = Path(file).absolute()
    for each in {path, Path(os.path.realpath(path))}:
        yield str(each)
        yield str(each.parent)


def _allowed(paths: set[str], home: Path | None) -> Iterator[str]:
    """Without folders that hold a home, or that everybody uses."""
    for path in paths:
        real = Path(os.path.realpath(path))
        if real == Path("/") or real == Path("/tmp") or str(real) == "/dev":  # noqa: S108 - it is refused
            continue
        if home is not None and home.is_relative_to(real):
            continue
        yield path


def _home(environ: Mapping[str, str]) -> Path | None:
    home = environ.get("HOME", "")
    return Path(os.path.realpath(home)) if home.startswith("/") and home != "/" else None


def _below_home(environ: Mapping[str, str], name: str) -> str:
    home = environ.get("HOME", "")
    return str(Path(home) / name) if home.startswith("/") else ""
