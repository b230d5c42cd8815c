"""What a schema cannot see: whether manifests that name each other agree, and whether pods are as safe as promised.

Each check takes the documents of one `kubectl apply -k` and yields a line for every problem, so that a test can also
show that a check notices a manifest that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.k8s.manifests import Manifest, label
from tests.k8s.pods import (
    Manifests,
    check_claims,
    check_gpus,
    check_pod_security,
    check_references,
    check_resources,
    check_service_accounts,
    find_manifest,
    memory_problems,
    pods,
)

# A decoder that is in the middle of a video gets a few seconds after the server's own grace.
SPARE_SECONDS = 10
# Kinds that live in no namespace.
OF_THE_CLUSTER = ("Namespace", "ClusterServingRuntime")


def find_problems(manifests: Manifests, *, beside: Sequence[Manifest] = ()) -> list[str]:
    """beside: what is applied before, from which claims may be named."""
    claims = {m["metadata"]["name"] for m in (*manifests, *beside) if m["kind"] == "PersistentVolumeClaim"}
    return [*check_claims(manifests, claims), *(problem for check in CHECKS for problem in check(manifests))]


def check_selectors(manifests: Manifests) -> Iterator[str]:
    """Everything that selects pods selects all those of exactly one workload here."""
    made = [*pods(manifests)]
    for manifest in manifests:
        for where, selector in _selectors(manifest):
            matched = sorted({pod.owner for pod in made if _matches(selector, pod.labels)})
            if len(matched) != 1:
                yield f"{label(manifest)}: {where} selects {matched or 'no pods'}"
            if any(pod.owner in matched and not _matches(selector, pod.labels) for pod in made):
                yield f"{label(manifest)}: {where} selects some pods only of {matched}"


def check_service_ports(manifests: Manifests) -> Iterator[str]:
    """The named ports that Services and NetworkPolicies send to are those of the pods that they select."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            ports = {port["targetPort"] for port in spec["ports"]}
            selector = spec["selector"]
        elif manifest["kind"] == "NetworkPolicy":
            ports = {port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", [])}
            selector = spec["podSelector"]["matchLabels"]
        else:
            continue
        for workload in _workloads(manifests):
            known = {p["name"] for c in _containers(workload) for p in c.get("ports", [])}
            if _matches(selector, _pod_labels(workload)) and not ports <= known:
                yield f"{label(manifest)}: ports {sorted(ports - known)} are not among {sorted(known)}"


def check_autoscalers(manifests: Manifests) -> Iterator[str]:
    """An autoscaler's target exists, is its alone, leaves the number of pods to it, and has what it measures."""
    targets: set[str] = set()
    for autoscaler in (m for m in manifests if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")):
        spec = autoscaler["spec"]
        target = spec["scaleTargetRef"]
        workload = find_manifest(manifests, target["kind"], target["name"])
        if workload is None or workload["apiVersion"] != target["apiVersion"]:
            yield f"{label(autoscaler)}: its target {target['kind']}/{target['name']} is not there"
            continue
        if label(workload) in targets:
            yield f"{label(workload)}: has two autoscalers"
        targets.add(label(workload))
        if "replicas" in workload["spec"]:
            yield f"{label(workload)}: sets replicas, which {label(autoscaler)} owns"
        least, most = (spec.get(f"{end}Replicas", spec.get(f"{end}ReplicaCount")) for end in ("min", "max"))
        if least > most:
            yield f"{label(autoscaler)}: from {least} to {most} pods"
        containers = {c["name"]: c for c in _containers(workload)}
        for metric in (m["containerResource"] for m in spec.get("metrics", []) if "containerResource" in m):
            requests = containers.get(metric["container"], {}).get("resources", {}).get("requests", {})
            if metric["name"] not in requests:
                yield f"{label(autoscaler)}: container {metric['container']} requests no {metric['name']}"


def check_probes(manifests: Manifests) -> Iterator[str]:
    """Probed ports are ports of the container; whatever is deployed for good has all three probes."""
    for workload in _workloads(manifests):
        for container in _containers(workload):
            probes = {k: v for k, v in container.items() if k.endswith("Probe")}
            if workload["kind"] == "Deployment" and len(probes) < 3:
                yield f"{label(workload)}: has only {sorted(probes)}"
            ports = {p["containerPort"] for p in container.get("ports", [])}
            for name, probe in probes.items():
                port = probe["grpc"]["port"] if "grpc" in probe else _asked_port(probe["exec"]["command"])
                if port not in ports:
                    yield f"{label(workload)}: {name} asks port {port}, not one of {sorted(ports)}"


def _asked_port(command: list[str]) -> int:
    """Of the health check's own command."""
    (address,) = (word for word in command if word.startswith("127.0.0.1:"))
    return int(address.partition(":")[2])


def check_arguments(manifests: Manifests) -> Iterator[str]:
    """No argument is left with a variable that nothing sets."""
    for workload in _workloads(manifests):
        for argument in arguments(workload, manifests):
            if "$(" in argument:
                yield f"{label(workload)}: nothing sets the variable of {argument}"


def check_shutdown(manifests: Manifests) -> Iterator[str]:
    """preStop's sleep, the server's grace and some seconds to spare fit into the pod's grace period."""
    for workload in (w for w in _workloads(manifests) if w["kind"] == "Deployment"):
        for container in _containers(workload):
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if not sleep:
                yield f"{label(workload)}: stops before its clients know"
            option = "--shutdown-grace-seconds="
            values = [a.removeprefix(option) for a in arguments(workload, manifests) if a.startswith(option)]
            if len(values) != 1 or not values[0].isdigit():
                yield f"{label(workload)}: {option}{values}"
                continue
            needed = sleep + int(values[0]) + SPARE_SECONDS
            granted = _pod(workload)["terminationGracePeriodSeconds"]
            if granted < needed:
                yield f"{label(workload)}: is killed after {granted} s, and needs {needed} s to stop"


def check_memory(manifests: Manifests) -> Iterator[str]:
    """Requests and decode processes leave memory to the models: in a pod that has none left, every process is ended."""
    for workload in (w for w in _workloads(manifests) if w["kind"] == "Deployment"):
        for container in _containers(workload):
            limit = container["resources"]["limits"].get("memory", "0Mi")
            problems = memory_problems(arguments(workload, manifests), limit)
            yield from (f"{label(workload)}: {problem}" for problem in problems)


def check_rollout(manifests: Manifests) -> Iterator[str]:
    """A new pod may use all of its start-up time before its rollout counts as failed."""
    for workload in (w for w in _workloads(manifests) if w["kind"] == "Deployment"):
        for probe in (c["startupProbe"] for c in _containers(workload)):
            if probe["periodSeconds"] * probe["failureThreshold"] >= workload["spec"]["progressDeadlineSeconds"]:
                yield f"{label(workload)}: a rollout is given up before a slow start is"


def check_namespace(manifests: Manifests) -> Iterator[str]:
    """Everything lives in one namespace."""
    found = {m["metadata"].get("namespace") for m in manifests if m["kind"] not in OF_THE_CLUSTER}
    if found != {"tenclip"}:
        yield f"namespaces are {sorted(map(str, found))}"


CHECKS: tuple[Callable[[Manifests], Iterator[str]], ...] = (
    check_selectors,
    check_service_ports,
    check_autoscalers,
    check_probes,
    check_references,
    check_arguments,
    check_service_accounts,
    check_pod_security,
    check_resources,
    check_gpus,
    check_shutdown,
    check_memory,
    check_rollout,
    check_namespace,
)


def arguments(workload: Manifest, manifests: Manifests) -> list[str]:
    """The arguments of a workload's only container, with its $(VARIABLES) put in as the kubelet does."""
    (container,) = _containers(workload)
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        config_map = find_manifest(manifests, "ConfigMap", source["configMapRef"]["name"])
        environment |= config_map["data"] if config_map else {}
    for variable in container.get("env", []):
        if "value" in variable:
            environment[variable["name"]] = variable["value"]
            continue
        kind, resource = variable["valueFrom"]["resourceFieldRef"]["resource"].split(".")
        environment[variable["name"]] = container["resources"][kind][resource]
    return [_expand(argument, environment) for argument in container["args"]]


def _expand(argument: str, environment: dict[str, str]) -> str:
    # A variable that is not set stays as it is written.
    for name, value in environment.items():
        argument = argument.replace(f"$({name})", value)
    return argument


def _workloads(manifests: Manifests) -> Manifests:
    return [m for m in manifests if m["kind"] in ("Deployment", "Job")]


def _pod(workload: Manifest) -> Any:
    return workload["spec"]["template"]["spec"]


def _containers(workload: Manifest) -> list[Any]:
    return [*_pod(workload)["containers"]]


def _pod_labels(workload: Manifest) -> dict[str, str]:
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def _selectors(manifest: Manifest) -> Iterator[tuple[str, dict[str, str]]]:
    """(where, labels) of everything in a manifest that selects pods of ours."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Deployment":
            yield "selector", spec["selector"]["matchLabels"]
            for constraint in _pod(manifest)["topologySpreadConstraints"]:
                yield "topologySpreadConstraints", constraint["labelSelector"]["matchLabels"]
        case "PodDisruptionBudget":
            yield "selector", spec["selector"]["matchLabels"]
        case "Service":
            yield "selector", spec["selector"]
        case "NetworkPolicy":
            yield "podSelector", spec["podSelector"]["matchLabels"]


def _matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()
