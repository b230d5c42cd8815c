"""Autoscalers that go by the server's load: their metrics exist, and one Deployment has one autoscaler."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.k8s.edits import edited
from tests.k8s.manifests import K8S, Manifest, build, build_with, named
from tests.k8s.metrics import METRIC, find_unknown, server_metrics
from tests.k8s.wiring import find_problems

KEDA = ("keda", "keda-to-zero")


def scaled_object(component: str) -> Manifest:
    return named(build_with(component), "ScaledObject")


def prometheus_triggers(component: str) -> list[dict[str, Any]]:
    return [t for t in scaled_object(component)["spec"]["triggers"] if t["type"] == "prometheus"]


@pytest.mark.parametrize("component", KEDA)
def test_keda_alone_scales_the_deployment(component: str) -> None:
    kinds = [m["kind"] for m in build_with(component)]
    assert kinds.count("ScaledObject") == 1
    assert "HorizontalPodAutoscaler" not in kinds


@pytest.mark.parametrize("component", KEDA)
def test_each_query_is_about_one_metric_that_exists(component: str) -> None:
    triggers = prometheus_triggers(component)
    for trigger in triggers:
        assert len(METRIC.findall(trigger["metadata"]["query"])) == 1
        assert find_unknown(trigger["metadata"]["query"]) == []
        # KEDA's default takes a series that is missing for nothing to do, and scales a busy server away.
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert float(trigger["metadata"]["threshold"]) > 0
    asked = {METRIC.findall(t["metadata"]["query"])[0][0] for t in triggers}
    assert asked == {"tenclip_clips_pending", "tenclip_queue_wait_seconds", "tenclip_requests_in_flight"}


@pytest.mark.parametrize("component", KEDA)
def test_sums_are_shared_among_pods_and_seconds_are_not(component: str) -> None:
    for trigger in prometheus_triggers(component):
        wanted = "AverageValue" if trigger["metadata"]["query"].startswith("sum(") else "Value"
        assert trigger["metricType"] == wanted


def test_keda_leaves_as_slowly_as_the_base() -> None:
    base = named(build("base"), "HorizontalPodAutoscaler")["spec"]
    spec = scaled_object("keda")["spec"]
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == base["behavior"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (base["minReplicas"], base["maxReplicas"])


def test_something_other_than_the_servers_wakes_them() -> None:
    spec = scaled_object("keda-to-zero")["spec"]
    assert spec["minReplicaCount"] == 0
    assert "fallback" not in spec
    (waker,) = (t for t in spec["triggers"] if t["type"] != "prometheus")
    key, value = waker["metadata"]["podSelector"].split("=")
    clients = named(build("features"), "Job")["spec"]["template"]["metadata"]["labels"]
    assert clients[key] == value
    # No server carries it: one that woke itself would never sleep.
    assert key not in named(build("base"), "Deployment")["spec"]["template"]["metadata"]["labels"]


def test_servers_that_are_scaled_away_are_not_missed() -> None:
    def alerts(*components: str) -> list[str]:
        (group,) = named(build_with(*components), "PrometheusRule")["spec"]["groups"]
        return [rule["alert"] for rule in group["rules"]]

    assert ["TenclipAbsent", *alerts("monitoring", "keda-to-zero")] == alerts("monitoring", "keda")


def adapter_rules() -> list[dict[str, Any]]:
    """The rules for prometheus-adapter of the README."""
    blocks = re.findall(r"```yaml\n(.*?)```", (K8S / "README.md").read_text(), re.DOTALL)
    (rules,) = (found["rules"] for found in map(yaml.safe_load, blocks) if "rules" in found)
    return list(rules)


def test_the_adapter_serves_what_the_autoscaler_asks_for() -> None:
    metrics = named(build_with("prometheus-adapter"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    cpu, *others = metrics
    assert cpu == named(build("base"), "HorizontalPodAutoscaler")["spec"]["metrics"][0]
    asked = [m["pods"]["metric"]["name"] for m in others]
    assert set(asked) <= server_metrics().keys()
    for name in asked:
        (rule,) = (r for r in adapter_rules() if r["seriesQuery"].startswith(f"{name}{{"))
        assert re.fullmatch(rule["name"]["matches"], name)
        assert rule["metricsQuery"].startswith("sum(")  # of all models of one pod


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("spec/scaleTargetRef/name", "x", "target Deployment/x is not there"),
        ("spec/minReplicaCount", 9, "from 9 to 8 pods"),
    ],
)
def test_a_scaled_object_that_disagrees_is_noticed(path: str, value: object, problem: str) -> None:
    manifests = build_with("keda")
    scaled = named(manifests, "ScaledObject")
    manifests[manifests.index(scaled)] = edited(scaled, path, value)
    assert any(problem in line for line in find_problems(manifests))


def test_two_autoscalers_of_one_deployment_are_noticed() -> None:
    manifests = [*build_with("keda"), named(build("base"), "HorizontalPodAutoscaler")]
    assert any("two autoscalers" in line for line in find_problems(manifests))
