from __future__ import annotations

import datetime as dt
import json
import secrets
import socket
import ssl

from modelplex.packages.certificate import make_certificate
from modelplex.packages.process import MAX_REFUSALS
from tests.packages.indexes import index
from tests.packages.mirrors import WAIT_S, mirror


def test_the_summary_says_what_was_fetched_and_refused() -> None:
    with index() as source, mirror(source) as found:
        source.add_wheel("known", "1.0")
        for path in ("/simple/known/", "/simple/known/", "/simple/second/", "/simple/other/", "/npm/other"):
            found.get(path)
        found.running.stop()
        log = [json.loads(line) for line in (found.folder / "log").read_text().splitlines()]
    summary = found.running.summary
    assert summary is not None
    assert (summary.fetched, summary.failed) == (1, 1)
    assert summary.refused == ["pypi:other", "npm:other"]
    assert [line["outcome"] for line in log] == ["ok", "error", "refused", "refused"]


def test_refusals_are_recorded_up_to_a_limit() -> None:
    with index() as source, mirror(source) as found:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAIT_S)
            connection.connect(found.socket)
            received = b""
            for number in range(MAX_REFUSALS + 20):
                request = f"GET /simple/n{number}/ HTTP/1.1\r\nhost: mirror.example\r\n\r\n"
                connection.sendall(request.encode())
                while received.count(b"HTTP/1.1 404") <= number:
                    received += connection.recv(65536)
        found.running.stop()
    assert found.running.summary is not None
    assert len(found.running.summary.refused) == MAX_REFUSALS


def test_it_serves_tls_and_survives_what_is_none() -> None:
    made = make_certificate(["mirror.example"], now=dt.datetime.now(dt.UTC), number_below=secrets.randbelow)
    context = ssl.create_default_context(cadata=made.authority)
    with index() as source, mirror(source, certificate=made.chain) as found:
        source.add_wheel("known", "1.0")
        _check_tls(str(found.folder / "tls"), context)


def _check_tls(path: str, context: ssl.SSLContext) -> None:
    with socket.socket(socket.AF_UNIX) as wrong:
        wrong.settimeout(WAIT_S)
        wrong.connect(path)
        wrong.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP/1.1" not in wrong.recv(1000)
    for request, status in (
        (b"GET /simple/known/ HTTP/1.1\r\nhost: mirror.example\r\n\r\n", b"200"),
        (b"POST / HTTP/1.1\r\nhost: mirror.example\r\ncontent-length: 99\r\n\r\nx", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(WAIT_S)
            raw.connect(path)
            with context.wrap_socket(raw, server_hostname="mirror.example") as secure:
                secure.sendall(request)
                assert secure.recv(1000).split(b" ")[1] == status
