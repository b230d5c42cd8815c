"""What the server measures, and what an expression of Prometheus names that it does not."""

from __future__ import annotations

import re
from functools import cache

import grpc

# name{label="value",...}: all that the expressions here are made of, functions and numbers aside.
METRIC = re.compile(r"\b((?:tenclip|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|=|!=|!~)"([^"]*)"')
# What Prometheus adds to every series, from where it was scraped.
_OF_THE_TARGET = {"namespace", "pod", "job", "instance"}


@cache
def server_metrics() -> dict[str, frozenset[str]]:
    """Sample name -> its labels, of everything that the server counts (a histogram's "le" included)."""
    from tenclip_serving.telemetry.metrics import Metrics

    metrics = Metrics()
    found: dict[str, frozenset[str]] = {}
    for collector in vars(metrics).values():
        name = getattr(collector, "_name", "")
        labels = frozenset(getattr(collector, "_labelnames", ()))
        match getattr(collector, "_type", ""):
            case "counter":
                found[f"{name}_total"] = labels
            case "gauge":
                found[name] = labels
            case "histogram":
                found |= {f"{name}_sum": labels, f"{name}_count": labels, f"{name}_bucket": labels | {"le"}}
    metrics.load.pending = lambda: {"a model": 0}
    for family in metrics.registry.collect():  # those of its own collectors too
        for sample in family.samples:
            found.setdefault(sample.name, frozenset(sample.labels))
    return found


def find_unknown(expression: str) -> list[str]:
    """What an expression names that the server does not have: metrics, labels, values of labels."""
    from tenclip_serving.intake.admission import KINDS, Refusal
    from tenclip_serving.telemetry.metrics import STAGES

    values = {
        "stage": set(STAGES),
        "code": {code.name for code in grpc.StatusCode},
        "reason": {*Refusal, "died", "timeout", "cancelled", "recycled"},
        "kind": set(KINDS),
    }
    metrics = server_metrics()
    unknown = []
    for name, matchers in METRIC.findall(expression):
        if name not in metrics:
            unknown.append(name)
            continue
        for key, operator, value in _MATCHER.findall(matchers):
            if key not in metrics[name] | _OF_THE_TARGET:
                unknown.append(f"{name}{{{key}}}")
            known = values.get(key, {value})
            unknown += [f"{key}={v}" for v in (value.split("|") if "~" in operator else [value]) if v not in known]
    return unknown
