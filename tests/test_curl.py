"""curl, against the command as a user starts it: a process of its own, on TCP and on a socket."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CURL = shutil.which("curl") or ""
START_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0
CURL_LIMIT_S = 30.0
MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(not CURL, reason="curl is not installed")


@dataclass
class Served:
    base: str
    socket: str

    def curl(
        self, way: str, path: str, *options: str, data: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        where = (
            ["--unix-socket", self.socket, f"http://localhost{path}"] if way == "unix" else [self.base + path]
        )
        command = [CURL, "--silent", "--show-error", "--max-time", str(CURL_LIMIT_S), *options]
        if data is not None:
            command += ["--header", "content-type: application/json", "--data-binary", "@-"]
        return subprocess.run(
            [*command, *where], input=data, capture_output=True, check=False, timeout=CURL_LIMIT_S + 5
        )

    def json(self, way: str, path: str, *options: str, body: Any = None) -> Any:
        done = self.curl(way, path, *options, data=None if body is None else json.dumps(body).encode())
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`modelplex --config …`, started, and stopped with SIGTERM; it must leave nothing behind."""
    folder = tmp_path_factory.mktemp("curl")
    socket = folder / "m.sock"
    config = folder / "config.toml"
    config.write_text(
        f'[server]\nhttp = "127.0.0.1:0"\nsocket = "{socket}"\nmax_request_size = {4 * MIB}\n'
        '[log]\nformat = "json"\n[[providers]]\nname = "demo"\ntype = "demo"\n'
    )
    log = folder / "log"
    command = [sys.executable, "-m", "modelplex", "--config", str(config)]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process,
    ):
        try:
            yield Served(_address(process, log), str(socket))
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_LIMIT_S) == 0, log.read_text()
        finally:
            process.kill()
    assert not socket.exists()
    assert "Traceback" not in log.read_text()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it serves, as its own first log line says."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"event":"started"' in line:
                listeners: list[str] = json.loads(line)["listeners"]
                return next(each for each in listeners if each.startswith("http"))
        time.sleep(0.02)
    pytest.fail(f"modelplex did not start: {log.read_text()}")


@pytest.fixture(params=["tcp", "unix"])
def way(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def asked(text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.parametrize("base", ["/v1", "/models/v1"])
def test_a_chat(served: Served, way: str, base: str) -> None:
    got = served.json(way, f"{base}/chat/completions", body=asked("Grüezi"))
    assert "Grüezi" in got["choices"][0]["message"]["content"]


def test_a_stream_ends_with_done(served: Served, way: str) -> None:
    done = served.curl(
        way, "/v1/chat/completions", "--no-buffer", "--include", data=json.dumps(asked(stream=True)).encode()
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    assert body.endswith(b"data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert '"Hi"' in said


def test_health_by_get_and_head(served: Served, way: str) -> None:
    assert served.json(way, "/health") == {"status": "ok", "service": "modelplex"}
    head = served.curl(way, "/health", "--head")
    assert head.returncode == 0
    assert head.stdout.startswith(b"HTTP/1.1 200")


def test_models_embeddings_and_completions(served: Served, way: str) -> None:
    assert {model["id"] for model in served.json(way, "/v1/models")["data"]} >= {"demo", "demo-embed"}
    vectors = served.json(way, "/v1/embeddings", body={"model": "demo-embed", "input": ["a", "b"]})
    assert [len(row["embedding"]) for row in vectors["data"]] == [256, 256]
    assert served.json(way, "/v1/completions", body={"model": "demo", "prompt": "Once"})["choices"][0]["text"]


def test_errors_are_json_with_a_status(served: Served, way: str) -> None:
    write = ("--write-out", "\n%{http_code}")
    for path, body, status, code in [
        ("/v1/chat/completions", json.dumps(asked() | {"model": "dmeo"}).encode(), 404, "model_not_found"),
        ("/v1/chat/completions", b"{", 400, None),
        ("/nowhere", b"{}", 404, "not_found"),
        ("/v1/chat/completions", json.dumps(asked("x" * 5 * MIB)).encode(), 413, "request_too_large"),
    ]:
        done = served.curl(way, path, *write, data=body)
        told, _, given = done.stdout.rpartition(b"\n")
        assert (int(given), json.loads(told)["error"]["code"]) == (status, code)


def test_a_large_body_that_waits_for_its_go_ahead_is_answered(served: Served, way: str) -> None:
    """curl sends `Expect: 100-continue` with a body above 1 MiB, and waits a second where nobody
    answers that.
    """
    body = asked("x" * 2 * MIB)
    took = (
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} %{time_total}",
        "--header",
        "Expect: 100-continue",
    )
    done = served.curl(way, "/v1/chat/completions", *took, data=json.dumps(body).encode())
    assert done.stdout.split()[0] == b"200"


def test_a_body_in_chunks_is_answered(served: Served, way: str) -> None:
    got = served.json(
        way, "/v1/chat/completions", "--header", "Transfer-Encoding: chunked", body=asked("in pieces")
    )
    assert "in pieces" in got["choices"][0]["message"]["content"]


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_any_version_of_http_that_curl_offers_is_answered(served: Served, way: str, version: str) -> None:
    """`--http2` without TLS asks for an upgrade, which is answered in plain HTTP/1.1; some builds
    of curl do not know it.
    """
    done = served.curl(way, "/v1/chat/completions", version, data=json.dumps(asked()).encode())
    if done.returncode == 2 or b"does not support" in done.stderr:
        pytest.skip("this curl does not offer it")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["object"] == "chat.completion"


def test_credentials_and_odd_headers_of_the_caller_are_tolerated(served: Served, way: str) -> None:
    odd = ("-H", "Authorization: Bearer nobody", "-H", "x-api-key: nobody", "-b", "a=b", "-H", "x-odd: 1")
    assert served.json(way, "/v1/models?x=1&key=2", *odd)["object"] == "list"


def test_several_requests_share_a_connection(served: Served, way: str) -> None:
    url = "http://localhost/health" if way == "unix" else f"{served.base}/health"
    done = served.curl(
        way, "/health", "--write-out", "%{num_connects}\n", "--output", "/dev/null", url, "-o", "/dev/null"
    )
    assert done.stdout.split() == [b"1", b"0"]


def test_the_inside_is_seen_over_tcp_alone(served: Served) -> None:
    assert b"modelplex" in served.curl("tcp", "/_internal/metrics").stdout
    assert served.json("unix", "/_internal/metrics")["error"]["code"] == "not_found"


def test_leaving_in_the_midst_of_an_answer_harms_nobody(served: Served, way: str) -> None:
    body = json.dumps(asked("x" * MIB, stream=True)).encode()
    done = served.curl(way, "/v1/chat/completions", "--max-filesize", "10", "--max-time", "0.001", data=body)
    assert done.returncode != 0
    assert served.json(way, "/health")["status"] == "ok"
