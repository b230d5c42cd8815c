"""Reads the manifests, builds the kustomizations, validates documents against Kubernetes' own schemas."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from tests.conftest import PROJECT
from tests.k8s.programs import find_program

Manifest: TypeAlias = dict[str, Any]

K8S = PROJECT / "k8s"
# The newest release that there are schemas for, and the two before it.
VERSIONS = tuple(dict.fromkeys(all_versions()))[-3:]
# What `kubectl apply -k` is meant for.
TARGETS = ("base", "batch", "features", "kserve", "overlays/gpu", "overlays/monitoring", "ray", "train")
# Each as an overlay of the base has it.
COMPONENTS = (
    ("gateway",),
    ("grafana",),
    ("gpu-mig",),
    ("gpu-time-slicing",),
    ("keda",),
    ("keda-to-zero",),
    ("monitoring", "keda-to-zero"),
    ("model-sync-oci",),
    ("model-sync-s3",),
    ("podmonitor",),
    ("prometheus-adapter",),
    ("tls",),
    ("tls", "tokens"),
)
# Each as an overlay of k8s/features has it.
CLIENT_COMPONENTS = (("features-tls",), ("features-tls", "features-token"))
# Each as an overlay of k8s/kserve has it; test_kserve.py, for the pods are KServe's to make.
KSERVE_COMPONENTS = (("kserve-networkpolicy",),)
# Groups of interfaces that Kubernetes does not define, so no release of it has their schemas; see crds.py.
CUSTOM_GROUPS = frozenset(
    (
        "cert-manager.io",
        "gateway.networking.k8s.io",
        "keda.sh",
        "monitoring.coreos.com",
        "ray.io",
        "serving.kserve.io",
        "trainer.kubeflow.org",
    )
)


def read_yaml(path: Path) -> list[Manifest]:
    """All documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def kustomization(folder: Path) -> Manifest:
    (document,) = read_yaml(folder / "kustomization.yaml")
    return document


def resource_files() -> list[Path]:
    """Every file that holds whole resources, of the bases and of the components."""
    folders = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
    names = ((folder, name) for folder in folders for name in kustomization(folder).get("resources", []))
    return [folder / name for folder, name in names if (folder / name).is_file()]


def source_manifests() -> list[Manifest]:
    return [document for path in resource_files() for document in read_yaml(path)]


def build(target: str) -> list[Manifest]:
    """What `kubectl apply -k k8s/TARGET` would send. Skips where neither kubectl nor kustomize is installed."""
    return [dict(document) for document in json.loads(_build(target))]


def build_with(*components: str, base: str = "base") -> list[Manifest]:
    """What an overlay of k8s/BASE with these components would send; see `build`."""
    return [dict(document) for document in json.loads(_build_with(components, base))]


@cache
def _build_with(components: tuple[str, ...], base: str) -> str:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()

        def place(path: Path) -> str:  # kustomize takes no absolute ones
            return os.path.relpath(path, folder)

        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [place(K8S / base)],
            "components": [place(K8S / "components" / name) for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return _kustomize(folder)


def build_text(overlay: str) -> list[Manifest]:
    """What a kustomization.yaml in a folder beside k8s/ would send; see `build`."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        placed = overlay.replace("../k8s/", f"{os.path.relpath(K8S, folder)}/")
        (folder / "kustomization.yaml").write_text(placed)
        return [dict(document) for document in json.loads(_kustomize(folder))]


@cache
def _build(target: str) -> str:
    return _kustomize(K8S / target)


def _kustomize(folder: Path) -> str:
    commands = {"kubectl": "kustomize", "kustomize": "build"}
    found = ((find_program(tool), word) for tool, word in commands.items())
    command = next(([program, word] for program, word in found if program), None)
    if command is None:
        pytest.skip("neither kubectl nor kustomize is installed")
    result = subprocess.run([*command, folder], capture_output=True, text=True, timeout=60, check=False, cwd=PROJECT)
    assert result.returncode == 0, result.stderr
    assert not result.stderr  # deprecated fields are told there
    return json.dumps([d for d in yaml.safe_load_all(result.stdout) if d is not None])


def is_custom(manifest: Manifest) -> bool:
    return manifest["apiVersion"].partition("/")[0] in CUSTOM_GROUPS


def validate(manifest: Manifest, version: str) -> None:
    """Raises `kubernetes_validate.ValidationError`; the strict schemas also refuse fields that do not exist."""
    _validate(json.dumps(manifest, sort_keys=True), version)


@cache
def _validate(manifest: str, version: str) -> None:
    # Cached: overlays share most of their documents with the base. (An exception is not cached.)
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


def named(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one manifest of this kind (and name). Raises ValueError if there is none, or more than one."""
    (found,) = (m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"]))
    return found


def project_version() -> str:
    version: str = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    return version


def label(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"
