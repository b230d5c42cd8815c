"""The findings that there are, by name."""

from __future__ import annotations

import importlib
import pkgutil

import tenclip_findings.findings as folder
from tenclip_api.errors import InvalidRequest
from tenclip_findings.finding import Finding


def all_findings() -> list[Finding]:
    """Every module of `findings` that has a FINDING, in the order of their numbers."""
    modules = [importlib.import_module(f"{folder.__name__}.{m.name}") for m in pkgutil.iter_modules(folder.__path__)]
    return sorted((m.FINDING for m in modules if hasattr(m, "FINDING")), key=lambda f: (f.number, f.name))


def chosen(names: list[str]) -> list[Finding]:
    """The findings of these names or numbers; all for none. Raises InvalidRequest that lists them."""
    findings = all_findings()
    if not names:
        return findings
    known = {f.name: [f] for f in findings}
    for f in findings:
        known.setdefault(str(f.number), []).append(f)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidRequest(f"no finding {', '.join(unknown)}; there are {', '.join(f.name for f in findings)}")
    return [f for name in names for f in known[name]]
