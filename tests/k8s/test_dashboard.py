"""The dashboard: each query of each panel has a result, by a real Prometheus that scrapes a real server at work."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import trustme

from tenclip_client import Client, TenclipError
from tests.k8s.manifests import K8S, build_with, named, read_yaml
from tests.k8s.metrics import METRIC, find_unknown
from tests.k8s.prometheus import Prometheus, running_prometheus
from tests.tenclip_serving.helpers import RULE, Sampler, make_bundle, make_video, running_server

FILE = K8S / "components" / "grafana" / "tenclip.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
# Of NVIDIA's exporter, not of the server: no GPU is here to ask. The names are those of its default counters.
OF_THE_GPU = {"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED"}
WINDOW = "20s"  # in the place of $__rate_interval
SECONDS = 90.0


@dataclass(frozen=True, kw_only=True)
class Query:
    panel: str
    expression: str

    def filled(self) -> str:
        return self.expression.replace("$__rate_interval", WINDOW).replace("$namespace", "tenclip")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


QUERIES = [Query(panel=panel["title"], expression=t["expr"]) for panel in panels() for t in panel["targets"]]
OURS = [query for query in QUERIES if "DCGM" not in query.expression]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With the alerts' rules, and a server with TLS, a cache, a stopping rule and a bundle that fails; under load."""
    root = tmp_path_factory.mktemp("dashboard")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(root / "tls.crt")
    certificate.private_key_pem.write_to_path(root / "tls.key")
    authority.cert_pem.write_to_path(root / "ca.crt")
    make_bundle(root / "models", "tiny", sampler=Sampler(stopping=RULE))
    make_bundle(root / "models", "drifted", golden_shift=3.0)
    video = make_video(root / "a.mp4").read_bytes()
    options = ("--runtime", "onnxruntime", "--threads", "1", "--decode-workers", "1", "--cache-mb", "8")
    tls = ("--tls-certificate", str(root / "tls.crt"), "--tls-key", str(root / "tls.key"))
    (rule,) = read_yaml(K8S / "components" / "monitoring" / "prometheusrule.yaml")
    ended = threading.Event()
    with running_server(root / "models", *options, *tls) as server:
        assert server.metrics_address is not None
        with (
            running_prometheus(root, server.metrics_address, rules=rule["spec"]) as started,
            Client(server.address, ca=root / "ca.crt", timeout=60) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            load = pool.submit(ask, client, video, ended)
            try:
                yield started
            finally:
                ended.set()
            load.result(60)


def ask(client: Client, video: bytes, ended: threading.Event) -> None:
    """A request of each kind, again and again, slowly."""
    number = 0
    while not ended.wait(0.5):
        number += 1
        # A box that players skip makes it a file that no cache knows; asked about twice, it knows it.
        new = video + b"\0\0\0\x08free" * number
        client.predict(new, model="tiny", clips="center")
        client.predict(new, model="tiny", clips="center")
        client.predict(new, model="tiny", clips="salient", adaptive=True)
        with pytest.raises(TenclipError):
            client.predict(video, model="nobody")


def test_no_panel_is_empty(prometheus: Prometheus) -> None:
    deadline, empty = time.monotonic() + SECONDS, list(OURS)
    while empty and time.monotonic() < deadline:
        time.sleep(1)
        empty = [query for query in empty if not prometheus.query(query.filled())]
    assert [f"{query.panel}: {query.expression}" for query in empty] == []


def test_a_query_about_nothing_is_noticed(prometheus: Prometheus) -> None:
    assert prometheus.query('tenclip_requests_total{namespace="elsewhere"}') == []


def test_prometheus_takes_the_alerts_and_each_is_evaluated(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        (fails,) = (rule for rule in rules if rule["name"] == "TenclipModelFails")
        done = fails["state"] == "pending" and all(rule["health"] == "ok" for rule in rules)
        if done or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    assert len(rules) >= 10
    # One bundle of this server fails: its alert is on its way.
    assert fails["state"] == "pending"


@pytest.mark.parametrize("query", OURS, ids=lambda query: f"{query.panel}: {query.expression[:40]}")
def test_a_query_names_what_the_server_has(query: Query) -> None:
    assert METRIC.search(query.expression)
    assert find_unknown(query.expression) == []
    assert 'namespace="$namespace"' in query.expression


def test_the_gpus_panels_ask_their_exporter() -> None:
    names = {name for query in QUERIES if query not in OURS for name in OF_THE_GPU if name in query.expression}
    assert names == OF_THE_GPU


def test_every_panel_can_be_read() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", "no data source of one Grafana alone"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(places) == len(set(places))
    assert {v["name"] for v in DASHBOARD["templating"]["list"]} == {"datasource", "namespace"}


def test_grafanas_sidecar_finds_it() -> None:
    found = named(build_with("grafana"), "ConfigMap", "tenclip-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["tenclip.json"]) == DASHBOARD


def test_there_is_a_panel_for_what_operators_ask() -> None:
    asked = {name for query in OURS for name, _ in METRIC.findall(query.expression)}
    assert asked >= {
        "tenclip_requests_total",
        "tenclip_refusals_total",
        "tenclip_stage_seconds_sum",
        "tenclip_clips_pending",
        "tenclip_queue_wait_seconds",
        "tenclip_in_flight_bytes",
        "tenclip_batch_clips_bucket",
        "tenclip_decode_worker_restarts_total",
    }
