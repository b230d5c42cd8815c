"""The chart: what real Helm makes of it is what kustomize makes of the base."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenclip_serving.config import ServerConfig
from tenclip_settings import load_settings
from tests.k8s.manifests import (
    K8S,
    VERSIONS,
    Manifest,
    build,
    build_with,
    label,
    named,
    project_version,
    read_yaml,
    validate,
)
from tests.k8s.programs import find_program
from tests.k8s.wiring import find_problems

CHART = K8S / "helm" / "tenclip"
# What `helm uninstall` leaves.
KEPT = {"helm.sh/resource-policy": "keep"}


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    program = find_program("helm")
    if program is None:
        pytest.skip("no helm: make helm")
    command = [program, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@cache
def _rendered(*options: str, namespace: str = "tenclip") -> str:
    result = helm("template", "tenclip", str(CHART), "--namespace", namespace, *options)
    assert result.returncode == 0, result.stderr
    return json.dumps([d for d in yaml.safe_load_all(result.stdout) if d])


def rendered(*options: str, namespace: str = "tenclip") -> list[Manifest]:
    return [dict(document) for document in json.loads(_rendered(*options, namespace=namespace))]


def normalised(manifests: list[Manifest]) -> dict[str, Manifest]:
    """By kind and name, without what each tool adds: who manages, what it leaves, how a setting rolls the pods."""
    text = re.sub(r'"tenclip-server-[a-z0-9]{10}"', '"tenclip-server"', json.dumps(manifests))
    found = {}
    for manifest in json.loads(text):
        manifest = copy.deepcopy(manifest)
        manifest["metadata"].get("labels", {}).pop("app.kubernetes.io/managed-by", None)
        if manifest["metadata"].get("annotations") == KEPT:
            del manifest["metadata"]["annotations"]
        template = manifest.get("spec", {}).get("template", {}).get("metadata", {})
        template.pop("annotations", None)
        found[label(manifest)] = manifest
    return found


def test_it_renders_what_kustomize_builds() -> None:
    by_helm, by_kustomize = normalised(rendered()), normalised(build("base"))
    assert by_helm.keys() == by_kustomize.keys()
    for name, manifest in by_helm.items():
        assert manifest == by_kustomize[name], name


def test_with_a_gpu_it_renders_what_the_component_does() -> None:
    manifests = rendered("--set", "gpu.enabled=true")
    assert normalised(manifests) == normalised(build("overlays/gpu"))
    sliced = normalised(rendered("--set", "gpu.enabled=true", "--set", "gpu.resource=nvidia.com/mig-1g.18gb"))
    assert sliced == normalised(build_with("gpu-mig"))
    assert find_problems(manifests) == []


def test_a_gpu_leaves_a_runtime_and_a_tag_that_are_named() -> None:
    options = ("--set", "gpu.enabled=true", "--set", "settings.TENCLIP_RUNTIME=torch", "--set", "image.tag=mine")
    manifests = rendered(*options)
    assert named(manifests, "ConfigMap")["data"]["TENCLIP_RUNTIME"] == "torch"
    (container,) = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "tenclip:mine"


def test_names_for_browsers_are_a_setting_that_the_server_reads(tmp_path: Path) -> None:
    names = ("--set", "browserNames={lab.example,tenclip.tenclip.svc}")
    manifests = rendered(*names, "--set-string", "settings.TENCLIP_HTTP_PORT=8411")
    data = named(manifests, "ConfigMap")["data"]
    config = load_settings(ServerConfig, environment=data, flags={"directory": tmp_path}).settings
    assert (config.browser_names, config.http_port) == (("lab.example", "tenclip.tenclip.svc"), 8411)
    assert "TENCLIP_BROWSER_NAMES" not in named(rendered(), "ConfigMap")["data"]


def test_a_difference_is_noticed() -> None:
    manifests = rendered("--set", "autoscaling.maxReplicas=9")
    assert normalised(manifests) != normalised(build("base"))


@pytest.mark.parametrize("namespace", ["tenclip", "video"])
def test_what_it_renders_is_valid_in_any_namespace(namespace: str) -> None:
    manifests = rendered(namespace=namespace)
    for manifest in manifests:
        validate(manifest, VERSIONS[-1])
    places = {m["metadata"].get("namespace", m["metadata"]["name"]) for m in manifests}
    assert places == {namespace}
    if namespace == "tenclip":
        assert find_problems(manifests) == []


def test_an_uninstall_leaves_the_models_and_the_namespace_that_every_claim_is_in() -> None:
    kept = {label(m) for m in rendered() if m["metadata"].get("annotations") == KEPT}
    assert kept == {"Namespace/tenclip", "PersistentVolumeClaim/tenclip-models"}


def test_a_changed_setting_rolls_the_pods() -> None:
    def annotations(*options: str) -> Any:
        return named(rendered(*options), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations() != annotations("--set", "settings.TENCLIP_LOG_FORMAT=text")


def test_without_an_autoscaler_the_number_of_pods_is_a_value() -> None:
    manifests = rendered("--set", "autoscaling.enabled=false", "--set", "replicas=3")
    assert named(manifests, "Deployment")["spec"]["replicas"] == 3
    assert not [m for m in manifests if m["kind"] == "HorizontalPodAutoscaler"]


def test_the_grace_period_follows_the_servers() -> None:
    manifests = rendered("--set-string", "settings.TENCLIP_SHUTDOWN_GRACE_SECONDS=120")
    assert named(manifests, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 150
    assert find_problems(manifests) == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("autoscaling.maxReplica=3", "maxReplica"),
        ("replicas=two", "replicas"),
        ("settings.LOG_FORMAT=text", "LOG_FORMAT"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("gpu.count=2", "count"),
        ("browserNames={}", "browserNames"),
        ("settings.TENCLIP_SHUTDOWN_GRACE_SECONDS=60.5", "TENCLIP_SHUTDOWN_GRACE_SECONDS"),
    ],
)
def test_a_value_that_does_not_exist_is_refused(value: str, problem: str) -> None:
    result = helm(
        "template", "tenclip", str(CHART), "--set-string" if value.startswith("settings.") else "--set", value
    )
    assert result.returncode != 0
    assert problem in result.stderr


def test_it_has_nothing_that_helm_objects_to() -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


def test_its_versions_are_the_projects() -> None:
    (chart,) = read_yaml(CHART / "Chart.yaml")
    assert chart["version"] == chart["appVersion"] == project_version()


def test_its_settings_are_those_of_the_base() -> None:
    (values,) = read_yaml(CHART / "values.yaml")
    lines = (K8S / "base" / "server.env").read_text().splitlines()
    base = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert values["settings"] == base


def test_every_file_of_the_base_has_its_template() -> None:
    base = {p.name for p in (K8S / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert {p.name for p in (CHART / "templates").glob("*.yaml")} == base | {"settings.yaml"}
