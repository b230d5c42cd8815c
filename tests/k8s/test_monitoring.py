"""Alerts and scrapes against the metrics that the server really has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.k8s.manifests import K8S, build, named, read_yaml
from tests.k8s.metrics import METRIC, find_unknown

MONITORING = K8S / "components" / "monitoring"


def rules() -> list[dict[str, Any]]:
    (document,) = read_yaml(MONITORING / "prometheusrule.yaml")
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert METRIC.search(rule["expr"])
    assert find_unknown(rule["expr"]) == []
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
    assert find_unknown(expression) == unknown


def test_the_scrape_finds_exactly_one_port_of_one_service() -> None:
    manifests = build("overlays/monitoring")
    monitor = named(manifests, "ServiceMonitor")
    assert monitor["metadata"]["namespace"] == named(manifests, "Deployment")["metadata"]["namespace"]
    (endpoint,) = monitor["spec"]["endpoints"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    services = [m for m in manifests if m["kind"] == "Service" and wanted.items() <= m["metadata"]["labels"].items()]
    ports = [(s["metadata"]["name"], p["name"]) for s in services for p in s["spec"]["ports"]]
    assert [port for port in ports if port[1] == endpoint["port"]] == [("tenclip", "metrics")]


def test_the_dashboard_counts_the_same_errors_as_the_alert() -> None:
    (alert,) = (rule["expr"] for rule in rules() if rule["alert"] == "TenclipErrors")
    board = json.loads((K8S / "components" / "grafana" / "tenclip.json").read_text())
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    (codes,) = re.findall(r'code=~"([A-Z_|]+)"', alert)
    assert {found for expr in targets for found in re.findall(r'code=~"([A-Z_|]+)"', expr)} == {codes}


def test_an_alert_on_absence_names_the_namespace_of_the_server() -> None:
    namespace = named(build("base"), "Namespace")["metadata"]["name"]
    (absent,) = [rule["expr"] for rule in rules() if "absent(" in rule["expr"]]
    assert f'namespace="{namespace}"' in absent
