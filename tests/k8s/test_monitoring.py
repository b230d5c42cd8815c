"""Alerts and scrapes against the metrics that the server really has, since no schema covers them here."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest

from tests.k8s.manifests import K8S, build, named, read_yaml

MONITORING = K8S / "components" / "monitoring"
# name{label="value",...}: all that the expressions here are made of, functions and numbers aside.
_METRIC = re.compile(r"\b(tenclip_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|=|!=|!~)"([^"]*)"')


def server_metrics() -> dict[str, set[str]]:
    """Sample name -> its labels, of everything that the server counts (a histogram's "le" included)."""
    from tenclip_serving.telemetry.metrics import Metrics

    found: dict[str, set[str]] = {}
    for collector in vars(Metrics()).values():
        name = getattr(collector, "_name", "")
        labels = set(getattr(collector, "_labelnames", ()))
        match getattr(collector, "_type", ""):
            case "counter":
                found[f"{name}_total"] = labels
            case "gauge":
                found[name] = labels
            case "histogram":
                found |= {f"{name}_sum": labels, f"{name}_count": labels, f"{name}_bucket": labels | {"le"}}
    return found


def rules() -> list[dict[str, Any]]:
    (document,) = read_yaml(MONITORING / "prometheusrule.yaml")
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def find_unknown(expression: str, metrics: dict[str, set[str]]) -> list[str]:
    """What an expression names that the server does not have: metrics, labels, values of labels."""
    from tenclip_serving.telemetry.metrics import STAGES

    values = {"stage": set(STAGES), "code": {code.name for code in grpc.StatusCode}}
    unknown = []
    for name, matchers in _METRIC.findall(expression):
        if name not in metrics:
            unknown.append(name)
            continue
        for key, operator, value in _MATCHER.findall(matchers):
            if key not in metrics[name] | {"namespace"}:
                unknown.append(f"{name}{{{key}}}")
            known = values.get(key, {value})
            unknown += [f"{key}={v}" for v in (value.split("|") if "~" in operator else [value]) if v not in known]
    return unknown


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert _METRIC.search(rule["expr"])
    assert find_unknown(rule["expr"], server_metrics()) == []
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("warning", "critical")


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("rate(tenclip_request_total[5m])", ["tenclip_request_total"]),
        ('tenclip_stage_seconds_bucket{stage="queu"}', ["stage=queu"]),
        ('tenclip_requests_total{status="OK"}', ["tenclip_requests_total{status}"]),
        ('tenclip_requests_total{code=~"INTERNAL|OOPS"}', ["code=OOPS"]),
    ],
)
def test_a_typing_error_in_an_alert_is_noticed(expression: str, unknown: list[str]) -> None:
    assert find_unknown(expression, server_metrics()) == unknown


def test_the_scrape_finds_exactly_one_port_of_one_service() -> None:
    manifests = build("overlays/monitoring")
    monitor = named(manifests, "ServiceMonitor")
    assert monitor["metadata"]["namespace"] == named(manifests, "Deployment")["metadata"]["namespace"]
    (endpoint,) = monitor["spec"]["endpoints"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    services = [m for m in manifests if m["kind"] == "Service" and wanted.items() <= m["metadata"]["labels"].items()]
    ports = [(s["metadata"]["name"], p["name"]) for s in services for p in s["spec"]["ports"]]
    assert [port for port in ports if port[1] == endpoint["port"]] == [("tenclip", "metrics")]


def test_the_autoscaler_adds_a_metric_and_keeps_the_cpu() -> None:
    cpu, in_flight = named(build("overlays/monitoring"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert cpu == named(build("base"), "HorizontalPodAutoscaler")["spec"]["metrics"][0]
    assert in_flight["pods"]["metric"]["name"] in server_metrics()


def test_an_alert_on_absence_names_the_namespace_of_the_server() -> None:
    namespace = named(build("base"), "Namespace")["metadata"]["name"]
    (absent,) = [rule["expr"] for rule in rules() if "absent(" in rule["expr"]]
    assert f'namespace="{namespace}"' in absent
