"""The alert rules and the dashboard, with a real Prometheus that scrapes a running gateway."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.limits.shared.redis_server import RedisServer, redis
from tests.processes import WAIT_S, Gateway, free_port, served, until

__all__ = ["redis"]

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no prometheus here")

CONFIG = """\
[[providers]]
type = "demo"
[[agents]]
name = "a"
token = "a-long-enough-token"
budget = { usd = 5, tokens = 1000 }
"""


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(RULES.with_name("rules.test.yaml")))


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "modelplex.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [each.replace("$__rate_interval", "1m") for each in found]


def names_in(expression: str) -> set[str]:
    words = "".join(each if each.isalnum() or each == "_" else " " for each in expression).split()
    return {word for word in words if word.startswith(("modelplex_", "gen_ai_client_", "process_"))}


def get(port: int, path: str, **query: str) -> Any:
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
        return json.load(answer)["data"]


async def test_a_prometheus_scrapes_a_gateway_and_every_query_is_answered(tmp_path: Path) -> None:
    async with served(CONFIG, folder=tmp_path) as gateway:
        for _ in range(3):
            headers = ["authorization: Bearer a-long-enough-token"]
            body = b'{"model":"demo","messages":[{"role":"user","content":"Hi"}]}'
            assert (await gateway.ask("POST", "/v1/chat/completions", body, headers=headers)).status == 200
        with prometheus(tmp_path, gateway) as port:
            await asyncio.to_thread(_check, port, tmp_path)


async def test_an_alert_fires_while_shared_limits_refuse_without_their_engine(
    redis: RedisServer, tmp_path: Path
) -> None:
    config = f'[shared]\nurl = "{redis.url}"\nlease = 1\n{CONFIG}'
    async with served(config, folder=tmp_path) as gateway:
        with prometheus(tmp_path, gateway) as port:

            async def ask() -> int:
                headers = ["authorization: Bearer a-long-enough-token"]
                body = b'{"model":"demo","messages":[{"role":"user","content":"Hi"}]}'
                return (await gateway.ask("POST", "/v1/chat/completions", body, headers=headers)).status

            def counted() -> bool:
                query = 'modelplex_shared_limits_requests_total{outcome="refused_without"}'
                return bool(get(port, "/api/v1/query", query=query)["result"])

            def firing() -> bool:
                alerts = get(port, "/api/v1/alerts")["alerts"]
                names = {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}
                return "ModelplexSharedLimitsRefuse" in names

            assert await ask() == 200
            await asyncio.to_thread(_scraped, port, tmp_path)
            await until(counted, what="the counter")
            assert not firing()
            redis.kill()
            refused = 0
            async with asyncio.timeout(WAIT_S):
                while not refused:
                    refused = (await ask()) == 503
            await until(firing, what="the alert", seconds=2 * WAIT_S)
            assert (
                get(port, "/api/v1/query", query="sum(modelplex_shared_limits_away)")["result"][0]["value"][1]
                == "1"
            )


@contextmanager
def prometheus(folder: Path, gateway: Gateway) -> Generator[int]:
    """The port of one that scrapes this gateway each second, with the rules."""
    port = free_port()
    config = folder / "prometheus.yml"
    scrape = {
        "job_name": "modelplex",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "metrics_path": "/_internal/metrics",
        "static_configs": [{"targets": [f"127.0.0.1:{gateway.address[1]}"]}],
    }
    settings = {
        "global": {"evaluation_interval": "1s"},
        "scrape_configs": [scrape],
        "rule_files": [str(RULES)],
    }
    config.write_text(json.dumps(settings))
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        popen = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
    try:
        yield port
    finally:
        popen.terminate()
        popen.wait(WAIT_S)


def _check(port: int, folder: Path) -> None:
    known = _scraped(port, folder)
    for expression in expressions():
        # Valid, and of metrics that the gateway has; what has not happened yet has no series.
        get(port, "/api/v1/query", query=expression)
        unknown = {name for name in names_in(expression) if name not in known}
        assert not unknown, (expression, unknown)
    assert get(port, "/api/v1/query", query="modelplex_budget_left")["result"]
    assert (
        get(port, "/api/v1/query", query='sum(modelplex_requests_total{agent="a"})')["result"][0]["value"][1]
        == "3"
    )
    groups = get(port, "/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 11
    assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
    for rule in rules:
        unknown = {name for name in names_in(rule["query"]) if name not in known}
        assert not unknown, (rule["name"], unknown)


def _scraped(port: int, folder: Path) -> set[str]:
    """The names of the gateway's metrics, once Prometheus has them; a family without a sample is
    known by its type alone.
    """
    import time

    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            kinds: dict[str, Any] = get(port, "/api/v1/metadata")
        except OSError:
            kinds = {}
        if kinds:
            # Counters are described without the ending of their samples.
            return {name + end for name in kinds for end in ("", "_total", "_bucket", "_count", "_sum")}
        time.sleep(0.1)
    raise AssertionError((folder / "prometheus.log").read_text())
