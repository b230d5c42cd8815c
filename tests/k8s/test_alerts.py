"""Each alert fires on the series that it is about, and not on those beside it, by Prometheus' own tool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT
from tests.k8s.manifests import K8S, read_yaml
from tests.k8s.prometheus import needs

_LABELS = 'namespace="tenclip", pod="tenclip-0"'
# alert -> series (name, more labels, values by the minute) that make it fire within an hour, and such that do not.
# `0+60x60` is 0, 60, 120, ...: one a second. Certificates: the tool's clock begins at 0.
FIRES: dict[str, list[tuple[str, str, str]]] = {
    "TenclipAbsent": [],
    "TenclipErrors": [
        ("tenclip_requests_total", 'code="OK"', "0+60x60"),
        ("tenclip_requests_total", 'code="INTERNAL"', "0+6x60"),
    ],
    "TenclipRefuses": [("tenclip_requests_total", 'code="RESOURCE_EXHAUSTED"', "0+12x60")],
    "TenclipQueues": [
        ("tenclip_stage_seconds_bucket", 'stage="queue", le="5"', "0+50x60"),
        ("tenclip_stage_seconds_bucket", 'stage="queue", le="10"', "0+60x60"),
        ("tenclip_stage_seconds_bucket", 'stage="queue", le="+Inf"', "0+60x60"),
    ],
    "TenclipNoRoom": [("tenclip_refusals_total", 'reason="no_bytes"', "0+6x60")],
    "TenclipDecodersDie": [("tenclip_decode_worker_restarts_total", 'reason="died"', "0+2x60")],
    "TenclipModelFails": [("tenclip_models_failed", "", "1x60")],
    "TenclipCertificateExpires": [("tenclip_tls_certificate_expiry_timestamp_seconds", "", "500000x60")],
    "TenclipTlsFilesRefused": [("tenclip_tls_loads_total", 'result="failed"', "0x20 1x39")],
    "TenclipLogLinesLost": [("tenclip_log_lines_dropped_total", "", "0+1x60")],
}
_ALIVE = ("tenclip_requests_in_flight", "", "0x60")
FINE: list[tuple[str, str, str]] = [
    _ALIVE,
    ("tenclip_requests_total", 'code="OK"', "0+60x60"),
    ("tenclip_requests_total", 'code="INVALID_ARGUMENT"', "0+60x60"),
    ("tenclip_requests_total", 'code="FAILED_PRECONDITION"', "0+60x60"),  # a URI that cannot be fetched
    ("tenclip_requests_total", 'code="INTERNAL"', "0+1x60"),
    ("tenclip_requests_total", 'code="RESOURCE_EXHAUSTED"', "0+1x60"),
    ("tenclip_stage_seconds_bucket", 'stage="queue", le="5"', "0+60x60"),
    ("tenclip_stage_seconds_bucket", 'stage="queue", le="+Inf"', "0+60x60"),
    ("tenclip_refusals_total", 'reason="queue_full"', "0+60x60"),
    ("tenclip_decode_worker_restarts_total", 'reason="recycled"', "0+60x60"),
    ("tenclip_models_failed", "", "0x60"),
    ("tenclip_tls_certificate_expiry_timestamp_seconds", "", "0x60"),  # no TLS
    ("tenclip_tls_loads_total", 'result="ok"', "0+1x60"),
    ("tenclip_log_lines_dropped_total", "", "0x60"),
]


def spec() -> dict[str, Any]:
    (document,) = read_yaml(K8S / "components" / "monitoring" / "prometheusrule.yaml")
    return dict(document["spec"])


def rules() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in spec()["groups"] for rule in group["rules"]}


def input_series(series: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [
        {"series": f"{name}{{{', '.join(filter(None, (_LABELS, labels)))}}}", "values": values}
        for name, labels, values in series
    ]


def run_tool(folder: Path, series: list[tuple[str, str, str]], alert: str) -> str:
    """What the tool says of an alert that is expected not to fire at all in an hour; empty where it does not."""
    tests = {
        "rule_files": ["rules.yaml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": input_series(series),
                "alert_rule_test": [{"eval_time": "45m", "alertname": alert, "exp_alerts": []}],
            }
        ],
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump(spec()))
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
    command = [needs("promtool"), "test", "rules", "tests.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires_and_says_why(alert: str, tmp_path: Path) -> None:
    alive = [] if alert == "TenclipAbsent" else [_ALIVE]
    said = run_tool(tmp_path, [*alive, *FIRES[alert]], alert)
    assert f'alertname="{alert}"' in said, said or "it did not fire"
    assert "got:[" in said.replace(" ", "").replace("\n", "")
    assert "error" not in said.lower().replace("tencliperrors", ""), said


def test_a_server_that_is_well_fires_nothing(tmp_path: Path) -> None:
    for alert in rules():
        assert run_tool(tmp_path, FINE, alert) == ""


def test_every_alert_is_tried() -> None:
    assert set(FIRES) == set(rules())


def anchors(page: str) -> set[str]:
    """Of a page's headings, as the pages' builder makes them."""
    headings = re.findall(r"^#+ (.+)$", (PROJECT / "docs" / page).read_text(), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("alert", rules())
def test_an_alert_has_a_runbook(alert: str) -> None:
    url = rules()[alert]["annotations"]["runbook_url"]
    page, _, anchor = url.rpartition("/")[2].partition("#")
    assert page == "runbooks.html"
    assert anchor in anchors("runbooks.md")
    assert f"## {alert}\n" in (PROJECT / "docs" / "runbooks.md").read_text()


def test_the_runbooks_are_in_the_navigation() -> None:
    assert "runbooks.md" in (PROJECT / "mkdocs.yml").read_text()


def test_the_readme_lists_every_alert() -> None:
    listed = re.findall(r"^\| (Tenclip\w+) \|", (K8S / "README.md").read_text(), re.MULTILINE)
    assert listed == list(rules())
