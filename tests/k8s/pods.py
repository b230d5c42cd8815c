"""Checks of pods, whoever makes them: what they name is there, and they are as confined as promised. See wiring.py."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.k8s.manifests import Manifest, label

Manifests: TypeAlias = list[Manifest]

# Of a pod's memory for the server itself, its runtimes and its models, in MiB.
MODEL_MB = 1024


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod that somebody makes of a template. owner: the kind and name of who does."""

    owner: str
    labels: dict[str, str]
    spec: Manifest

    @property
    def containers(self) -> list[Any]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def pods(manifests: Manifests) -> Iterator[Pod]:
    """Every pod, also of jobs that Ray and the trainer make."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Deployment" | "Job":
                templates = [spec["template"]]
            case "RayJob":
                cluster = spec["rayClusterSpec"]
                templates = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
            case "TrainingRuntime":
                jobs = spec["template"]["spec"]["replicatedJobs"]
                templates = [job["template"]["spec"]["template"] for job in jobs]
            case _:
                templates = []
        for template in templates:
            labels = template.get("metadata", {}).get("labels", {})
            yield Pod(owner=label(manifest), labels=labels, spec=template["spec"])


def check_claims(manifests: Manifests, claims: Set[str]) -> Iterator[str]:
    """Claims that a pod names are there, of this target or one that is applied before."""
    for pod in pods(manifests):
        for volume in (v for v in pod.spec["volumes"] if "persistentVolumeClaim" in v):
            name = volume["persistentVolumeClaim"]["claimName"]
            if name not in claims:
                yield f"{pod.owner}: claim {name} is not there"


def check_references(manifests: Manifests) -> Iterator[str]:
    """Config maps, mounts and fields that a pod names are there."""
    for pod in pods(manifests):
        volumes = {v["name"] for v in pod.spec["volumes"]}
        mounted = {m["name"] for container in pod.containers for m in container["volumeMounts"]}
        if mounted != volumes:
            yield f"{pod.owner}: mounts {sorted(mounted)} of the volumes {sorted(volumes)}"
        for container in pod.containers:
            for source in (s["configMapRef"]["name"] for s in container.get("envFrom", []) if "configMapRef" in s):
                if find_manifest(manifests, "ConfigMap", source) is None:
                    yield f"{pod.owner}: config map {source} is not there"
            for field in (v["valueFrom"]["resourceFieldRef"] for v in container.get("env", []) if "valueFrom" in v):
                kind, resource = field["resource"].split(".")
                if field["containerName"] != container["name"] or resource not in container["resources"][kind]:
                    yield f"{pod.owner}: no {field['resource']} in container {field['containerName']}"


def check_service_accounts(manifests: Manifests) -> Iterator[str]:
    """No pod holds a token of the cluster, and every account that is made here refuses one."""
    for account in (m for m in manifests if m["kind"] == "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{label(account)}: hands out tokens"
    for pod in pods(manifests):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.owner}: mounts a token"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.owner}: gets TENCLIP_* variables of the Services beside it"


def check_pod_security(manifests: Manifests) -> Iterator[str]:
    """The "restricted" Pod Security Standard, which the namespace enforces, and a read-only root beyond it.

    Ray writes where it likes, and its image has a user of its own: pods of a RayJob are spared what is beyond.
    """
    for pod in pods(manifests):
        wanted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        yield from _differences(pod.owner, pod.spec["securityContext"], wanted)
        ray = pod.owner.startswith("RayJob/")
        if not pod.spec["securityContext"].get("runAsUser", 0) >= (1 if ray else 10000):
            yield f"{pod.owner}: runAsUser may be a user of the node"
        allowed = {"name", "emptyDir", "persistentVolumeClaim", "configMap", "secret"}
        for volume in pod.spec["volumes"]:
            if not volume.keys() <= allowed:
                yield f"{pod.owner}: volume {volume['name']} is of a kind that is not allowed"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield f"{pod.owner}: {key}"
        for container in pod.containers:
            wanted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            wanted |= {} if ray else {"readOnlyRootFilesystem": True}
            yield from _differences(pod.owner, container["securityContext"], wanted)


def check_resources(manifests: Manifests) -> Iterator[str]:
    """Every container has requests and limits; memory that volumes may take fits beside the process's own."""
    for pod in pods(manifests):
        for container in pod.containers:
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory"} - container.get("resources", {}).get(kind, {}).keys()
                if missing:
                    yield f"{pod.owner}: no {kind} of {sorted(missing)}"
        for volume in (v["emptyDir"] for v in pod.spec["volumes"] if "emptyDir" in v):
            if "sizeLimit" not in volume:
                yield f"{pod.owner}: an emptyDir without a limit"
            elif volume.get("medium") == "Memory":
                limit = sum(_bytes(c["resources"]["limits"]["memory"]) for c in pod.containers)
                if _bytes(volume["sizeLimit"]) > limit // 2:
                    yield f"{pod.owner}: its memory volume may take more than half of its memory"


def check_gpus(manifests: Manifests) -> Iterator[str]:
    """A pod that asks for a GPU may run on the nodes that have them, and gets NVIDIA's runtime."""
    for pod in pods(manifests):
        limits = {resource for container in pod.containers for resource in container["resources"]["limits"]}
        if not any(resource.startswith("nvidia.com/") for resource in limits):
            continue
        if pod.spec.get("runtimeClassName") != "nvidia":
            yield f"{pod.owner}: runtimeClassName is {pod.spec.get('runtimeClassName')}"
        if "nvidia.com/gpu" not in [toleration.get("key") for toleration in pod.spec.get("tolerations", [])]:
            yield f"{pod.owner}: does not tolerate nodes with nvidia.com/gpu"


def memory_problems(words: list[str], limit: str) -> Iterator[str]:
    """What a server with these arguments may take in a pod of `limit`; some of that is to be left to the models."""
    from tenclip_serving.config import ServerConfig

    workers, each, requests = (
        [int(value) for name, _, value in (w.partition("=") for w in words) if name == option and value.isdigit()]
        for option in ("--decode-workers", "--decode-worker-memory-mb", "--max-in-flight-mb")
    )
    if len(workers) != 1 or len(each) != 1:
        yield f"--decode-workers={workers} --decode-worker-memory-mb={each}"
        return
    taken, there = workers[0] * each[0] + sum(requests or [ServerConfig.max_in_flight_mb]), _bytes(limit) >> 20
    if not each[0] or taken + MODEL_MB > there:
        yield f"requests and decode processes may take {taken} MiB of {there}"


def find_manifest(manifests: Manifests, kind: str, name: str) -> Manifest | None:
    return next((m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name), None)


def _differences(owner: str, context: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    for key, value in wanted.items():
        if context.get(key) != value:
            yield f"{owner}: {key} is {context.get(key)}, not {value}"


def _bytes(quantity: str) -> int:
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]
