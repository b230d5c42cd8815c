"""The findings that there are, by name, and those of them whose headlines are repeated with another network."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace

import tenclip_findings.findings as folder
from tenclip_api.errors import InvalidRequest
from tenclip_findings.finding import Finding
from tenclip_findings.lab.arms import R2PLUS1D_10, Lab
from tenclip_findings.lab.jobs import Job

NETWORKS = {"r3d": None, "r2plus1d": R2PLUS1D_10}  # None: of all findings; others: of headlines


def all_findings() -> list[Finding]:
    """Every module of `findings` that has a FINDING, in the order of their numbers."""
    modules = [importlib.import_module(f"{folder.__name__}.{m.name}") for m in pkgutil.iter_modules(folder.__path__)]
    return sorted((m.FINDING for m in modules if hasattr(m, "FINDING")), key=lambda f: (f.number, f.name))


def headlines(network: str = "r2plus1d") -> list[Finding]:
    """The findings that have headlines, with their arms alone and another network, as "log-linear-r2plus1d"."""
    return [_headline(f, network) for f in all_findings() if f.headline]


def _headline(finding: Finding, network: str) -> Finding:
    architecture = NETWORKS[network]
    assert architecture is not None, "headlines are of another network"
    names = {finding.baseline, *(arm for contrast in finding.headline for arm in contrast.weights)}

    def arms(lab: Lab) -> Mapping[str, Job]:
        every = finding.arms(replace(lab, architecture=architecture))
        return {name: job for name, job in every.items() if name in names}

    return replace(
        finding,
        name=f"{finding.name}-{network}",
        arms=arms,
        contrasts=finding.headline,
        headline=(),
        quick=False,
        notes="Headlines of this finding with R(2+1)D of 10 layers, the papers' network, in the place of R3D.",
    )


def chosen(names: list[str], network: str = "r3d") -> list[Finding]:
    """The findings of these names or numbers; all for none. With another network than R3D, their headlines.

    Raises InvalidRequest that lists them, also for a finding without headlines.
    """
    if network not in NETWORKS:
        raise InvalidRequest(f"no network {network!r}; there are {', '.join(NETWORKS)}")
    findings = all_findings() if NETWORKS[network] is None else headlines(network)
    if not names:
        return findings
    known = {f.name: [f] for f in findings}
    for f in findings:
        known.setdefault(f.name.removesuffix(f"-{network}"), [f])
        known.setdefault(str(f.number), []).append(f)
    unknown = [name for name in names if name not in known]
    if unknown:
        what = "finding" if NETWORKS[network] is None else f"finding with headlines for {network}"
        raise InvalidRequest(f"no {what} {', '.join(unknown)}; there are {', '.join(f.name for f in findings)}")
    return list({f.name: f for name in names for f in known[name]}.values())
