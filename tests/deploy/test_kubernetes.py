"""The chart, rendered by Helm, and the manifests, against Kubernetes' own schemas."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "modelplex"
FOLDER = ROOT / "deploy" / "kubernetes"
SANDBOX = FOLDER / "agent-sandbox.yaml"
"""Of a resource that is not Kubernetes' own."""
MANIFESTS = sorted(set(FOLDER.glob("*.yaml")) - {SANDBOX})
INSTALLED = ROOT / ".cache" / "deploy"
WAIT_S = 60

pytestmark = pytest.mark.deploy


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(*options: str) -> str:
    return run(INSTALLED / "helm" / "helm", "template", "gw", CHART, *options)


def check(folder: Path, text: str) -> None:
    """Unknown members are faults too."""
    file = folder / "manifests.yaml"
    file.write_text(text)
    run(INSTALLED / "kube" / "bin" / "kubernetes-validate", "--strict", "--kubernetes-version", "1.35", file)


def documents(text: str) -> list[dict[str, Any]]:
    code = "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(sys.stdin) if d]))"
    python = INSTALLED / "kube" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", code], input=text, capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_chart_is_valid(tmp_path: Path) -> None:
    run(INSTALLED / "helm" / "helm", "lint", "--strict", CHART)
    check(tmp_path, rendered())
    check(tmp_path, rendered("--set", "keysSecret=keys,nodeSelector.disk=ssd,agents.denyNetwork=false"))


def test_the_chart_has_what_it_says() -> None:
    by_kind = {each["kind"]: each for each in documents(rendered())}
    assert set(by_kind) == {"ConfigMap", "DaemonSet", "NetworkPolicy"}
    denied = by_kind["NetworkPolicy"]["spec"]
    assert (denied["ingress"], denied["egress"]) == ([], [])
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    pod = by_kind["DaemonSet"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["hostPath"]["path"] == "/run/modelplex"
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"


def test_the_charts_config_is_valid(tmp_path: Path) -> None:
    from modelplex.config import load

    (config,) = (each for each in documents(rendered()) if each["kind"] == "ConfigMap")
    file = tmp_path / "config.toml"
    file.write_text(config["data"]["config.toml"])
    environ = {"MODELPLEX_INTERNAL_TOKEN": "a-long-enough-token", "NODE_NAME": "node-1"}
    found = load(str(file), environ=environ)
    assert (found.server.drain_grace, found.record.host) == (5, "node-1")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_valid(manifest: Path, tmp_path: Path) -> None:
    check(tmp_path, manifest.read_text())


def test_the_pod_of_a_sandbox_is_valid(tmp_path: Path) -> None:
    (sandbox,) = documents(SANDBOX.read_text())
    template = sandbox["spec"]["podTemplate"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", **template["metadata"]}}
    check(tmp_path, json.dumps({**pod, "spec": template["spec"]}))
    assert template["metadata"]["labels"] == {"modelplex.dev/agent": "true"}
    assert template["spec"]["runtimeClassName"] == "gvisor"


def test_a_sidecar_is_not_restarted_for_what_a_provider_does() -> None:
    """Kubernetes ends a container whose startup probe fails, and its agent would never start."""
    pods = [each for m in MANIFESTS for each in documents(m.read_text()) if each["kind"] == "Pod"]
    gateways = [each for pod in pods for each in pod["spec"].get("initContainers", ())]
    assert len(gateways) == 2
    assert all("GET /health/live " in each["startupProbe"]["exec"]["command"][2] for each in gateways)


def test_the_policy_denies_agents_all() -> None:
    (policy,) = documents((ROOT / "deploy" / "kubernetes" / "networkpolicy.yaml").read_text())
    assert (policy["spec"]["ingress"], policy["spec"]["egress"]) == ([], [])
    labels = policy["spec"]["podSelector"]["matchLabels"].items()
    pods = [each for m in MANIFESTS for each in documents(m.read_text()) if each["kind"] == "Pod"]
    assert len(pods) == 4
    assert all(labels <= pod["metadata"]["labels"].items() for pod in pods)
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in pods)
