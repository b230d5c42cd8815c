"""Which findings a command is about, and which it cannot be about, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tenclip_api.errors import InvalidRequest
from tenclip_findings.catalog import all_findings, chosen, headlines
from tenclip_findings.evidence import SUFFIX
from tenclip_findings.finding import OWN, Finding

if TYPE_CHECKING:
    from tenclip_findings.footage.data import Footage


@dataclass(frozen=True, kw_only=True)
class Selection:
    """refused: why, by name. footage: own videos that the findings are on."""

    findings: Sequence[Finding]
    refused: Mapping[str, str] = field(default_factory=dict)
    footage: Footage | None = None


def select(
    names: list[str],
    *,
    network: str = "r3d",
    data: Path | None = None,
    quick: bool = False,
    kept: Path | None = None,
    tuning: bool = False,
) -> Selection:
    """The findings of a command's options. Raises InvalidRequest for names that there are not, and where nothing is
    left; DatasetError for data that cannot be read.
    """
    if data is not None:
        return _of_footage(names, data, network)
    if kept is not None:
        return _of_evidence(names, kept, network)
    found = chosen(names, network)
    if quick and not names:
        found = [f for f in found if f.quick]
    refused = {f.name: f"`{f.tuning}` shows its baseline" for f in found if tuning and f.tuning}
    found = [f for f in found if f.name not in refused]
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items()) or "none of them is for --quick"
        raise InvalidRequest(f"no finding is left to run: {reasons}")
    return Selection(findings=found, refused=refused)


def _of_evidence(names: list[str], folder: Path, network: str) -> Selection:
    """Those that the folder has a file of, headlines included; of another network than R3D, its headlines alone."""
    known = {f.name: f for f in (*all_findings(), *headlines())}
    there = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
    wanted = _wanted(names, known, network)
    findings = [f for name, f in known.items() if name in there and name in wanted]
    if not findings:
        what = "any finding" if network == "r3d" else f"any finding with headlines for {network}"
        raise InvalidRequest(f"{folder}: has no evidence of {', '.join(names) or what}; run them first")
    return Selection(findings=findings, refused={name: _unknown(name) for name in there if name not in known})


def _wanted(names: list[str], known: Mapping[str, Finding], network: str) -> set[str]:
    """Names of findings. Raises InvalidRequest for a name or number that no finding has."""
    if network != "r3d":
        return {f.name for f in chosen(names, network)}
    if not names:
        return set(known)
    full = {name for name in names if name in known}
    others = [name for name in names if name not in full]
    return full | ({f.name for f in chosen(others)} if others else set())


def _unknown(name: str) -> str:
    """Why evidence of this name is left out."""
    if OWN in name:
        return "is of your own videos; the command with --data that made it shows its tables again"
    return "no finding has this name"


def _of_footage(names: list[str], data: Path, network: str) -> Selection:
    from tenclip_findings.footage.data import read_footage
    from tenclip_findings.footage.findings import findings_of

    known = {f.name for f in chosen(names)}
    if network != "r3d":
        raise InvalidRequest(f"--network {network} is of generated videos; leave it out with --data")
    footage = read_footage(data)
    found, refused = findings_of(footage)
    found = [f for f in found if f.name.partition(OWN)[0] in known]
    refused = {name: why for name, why in refused.items() if name in known}
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise InvalidRequest(f"{data}: no finding can be run on it: {reasons}")
    return Selection(findings=found, refused=refused, footage=footage)
