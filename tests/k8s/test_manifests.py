"""Every manifest against the schemas of three Kubernetes releases, and against each other."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
from kubernetes_validate import SchemaNotFoundError

from tenclip_api.v1 import tenclip_pb2
from tenclip_serving.api.health import LIVENESS
from tests.conftest import PROJECT
from tests.k8s.edits import edited
from tests.k8s.manifests import (
    CLIENT_COMPONENTS,
    COMPONENTS,
    K8S,
    KSERVE_COMPONENTS,
    TARGETS,
    VERSIONS,
    build,
    build_text,
    build_with,
    is_custom,
    kustomization,
    label,
    named,
    project_version,
    read_yaml,
    source_manifests,
    validate,
)
from tests.k8s.wiring import find_problems

SERVICE = tenclip_pb2.DESCRIPTOR.services_by_name["VideoRecognition"].full_name
SOURCES = {label(m): m for m in source_manifests()}
KUSTOMIZATIONS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))


# --- schemas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name, m in SOURCES.items() if not is_custom(m)])
def test_a_source_manifest_is_valid(name: str, version: str) -> None:
    validate(SOURCES[name], version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_applied_is_valid(target: str, version: str) -> None:
    for manifest in build(target):
        if not is_custom(manifest):
            validate(manifest, version)


def test_only_custom_kinds_have_no_schema() -> None:
    unknown = set()
    for name, manifest in SOURCES.items():
        try:
            validate(manifest, VERSIONS[-1])
        except SchemaNotFoundError:
            unknown.add(name)
    assert unknown == {name for name, manifest in SOURCES.items() if is_custom(manifest)}


CONTAINER = "spec/template/spec/containers/0"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        pytest.param("Deployment/tenclip", "spec/selector", None, id="a required field is missing"),
        pytest.param("Deployment/tenclip", "spec/replica", 2, id="a field that does not exist"),
        pytest.param("Deployment/tenclip", f"{CONTAINER}/readinessProbe/grpc/port", "grpc", id="a name for a number"),
        pytest.param("Deployment/tenclip", f"{CONTAINER}/securityContext/readOnlyRootFS", True, id="a typing error"),
        pytest.param("Service/tenclip", "spec/ports/0/port", "7411", id="text for a number"),
        pytest.param("NetworkPolicy/tenclip", "spec/ingress/0/port", 7411, id="a field one level too high"),
        pytest.param("Job/tenclip-features", "spec/backoffLimit", "5", id="text for a number in a job"),
    ],
)
def test_a_broken_manifest_is_not_valid(name: str, path: str, value: object, version: str) -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(edited(SOURCES[name], path, value), version)


def test_an_interface_that_kubernetes_dropped_has_no_schema() -> None:
    old = edited(SOURCES["HorizontalPodAutoscaler/tenclip"], "apiVersion", "autoscaling/v2beta2")
    with pytest.raises(SchemaNotFoundError):
        validate(old, VERSIONS[-1])


# --- kustomize ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: str(folder.relative_to(K8S)))
def test_a_kustomization_lists_every_file_beside_it_and_only_those(folder: Path) -> None:
    document = kustomization(folder)
    generators = document.get("configMapGenerator", [])
    listed = [
        *document.get("resources", []),
        *document.get("components", []),
        *(patch["path"] for patch in document.get("patches", [])),
        *(file for g in generators for file in (*g.get("envs", []), *g.get("files", []))),
    ]
    assert len(listed) == len(set(listed))
    folders = {name for name in listed if (folder / name).is_dir()}
    assert all((folder / name / "kustomization.yaml").is_file() for name in folders)
    there = {path.name for path in folder.iterdir() if path.name != "kustomization.yaml"}
    assert there == set(listed) - folders


def test_every_target_is_tested() -> None:
    whole = {f.relative_to(K8S).as_posix() for f in KUSTOMIZATIONS if kustomization(f)["kind"] == "Kustomization"}
    assert whole == set(TARGETS)
    components = {f.name for f in KUSTOMIZATIONS if kustomization(f)["kind"] == "Component"}
    tested = COMPONENTS + CLIENT_COMPONENTS + KSERVE_COMPONENTS
    assert components == {name for names in tested for name in names} | {"gpu"}


CHANGED_SETTING = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: tenclip
resources: [../k8s/base]
configMapGenerator:
  - name: tenclip-server
    behavior: merge
    literals: [TENCLIP_LOG_FORMAT=text]
"""


def test_a_changed_setting_rolls_the_pods() -> None:
    for manifests in (build("base"), build("overlays/gpu"), build_text(CHANGED_SETTING)):
        container = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        name = container["envFrom"][0]["configMapRef"]["name"]
        assert name.startswith("tenclip-server-")
        assert named(manifests, "ConfigMap")["metadata"]["name"] == name
    changed = build_text(CHANGED_SETTING)
    assert named(build("base"), "ConfigMap")["metadata"]["name"] != named(changed, "ConfigMap")["metadata"]["name"]


# --- wiring ---------------------------------------------------------------------------------------------------------


# Claims with the models, the videos and the datasets.
BESIDE = ("base", "batch", "features")


@pytest.mark.parametrize("target", TARGETS)
def test_manifests_agree_with_each_other(target: str) -> None:
    beside = [m for other in BESIDE if other != target for m in build(other)]
    assert find_problems(build(target), beside=beside) == []


@pytest.mark.parametrize(
    ("base", "components"),
    [*(("base", names) for names in COMPONENTS), *(("features", names) for names in CLIENT_COMPONENTS)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_components_agree_with_their_base(base: str, components: tuple[str, ...]) -> None:
    manifests = build_with(*components, base=base)
    assert find_problems(manifests) == []
    for manifest in manifests:
        if not is_custom(manifest):
            validate(manifest, VERSIONS[-1])


@pytest.mark.parametrize(
    ("name", "path", "value", "problem"),
    [
        ("Service/tenclip", "spec/selector/app.kubernetes.io~1name", "tenclop", "selects no pods"),
        ("PodDisruptionBudget/tenclip", "spec/selector/matchLabels", {"app": "x"}, "selects no pods"),
        ("NetworkPolicy/tenclip", "spec/podSelector/matchLabels", {"app": "x"}, "selects no pods"),
        ("Service/tenclip", "spec/ports/0/targetPort", "http", "ports ['http'] are not among ['grpc', 'metrics']"),
        ("NetworkPolicy/tenclip", "spec/ingress/1/ports/0/port", "prom", "ports ['prom'] are not among"),
        ("HorizontalPodAutoscaler/tenclip", "spec/scaleTargetRef/name", "x", "target Deployment/x is not there"),
        ("HorizontalPodAutoscaler/tenclip", "spec/metrics/0/containerResource/container", "x", "x requests no cpu"),
        ("Deployment/tenclip", "spec/replicas", 2, "sets replicas"),
        ("Deployment/tenclip", f"{CONTAINER}/livenessProbe", None, "has only"),
        ("Deployment/tenclip", f"{CONTAINER}/livenessProbe/grpc/port", 1, "livenessProbe asks port 1"),
        ("Deployment/tenclip", f"{CONTAINER}/envFrom/0/configMapRef/name", "x", "config map x is not there"),
        ("Deployment/tenclip", f"{CONTAINER}/args/3", "--threads=$(THREADS)", "nothing sets the variable of --threads"),
        ("Deployment/tenclip", f"{CONTAINER}/args/7", "--port=1", "--shutdown-grace-seconds=[]"),
        ("Deployment/tenclip", f"{CONTAINER}/args/5", "--decode-worker-memory-mb=4096", "may take 10240 MiB of 6144"),
        ("Deployment/tenclip", f"{CONTAINER}/args/5", "--port=1", "--decode-worker-memory-mb=[]"),
        ("Deployment/tenclip", f"{CONTAINER}/env/0/valueFrom/resourceFieldRef/containerName", "x", "in container x"),
        ("Deployment/tenclip", f"{CONTAINER}/volumeMounts/0/name", "x", "mounts ["),
        ("Deployment/tenclip", "spec/template/spec/volumes/0/persistentVolumeClaim/claimName", "x", "claim x is not"),
        ("Deployment/tenclip", "spec/template/spec/automountServiceAccountToken", None, "mounts a token"),
        ("Deployment/tenclip", "spec/template/spec/enableServiceLinks", None, "gets TENCLIP_* variables"),
        ("Deployment/tenclip", "spec/template/spec/securityContext/runAsNonRoot", False, "runAsNonRoot is False"),
        ("Deployment/tenclip", "spec/template/spec/securityContext/runAsUser", None, "runAsUser may be"),
        ("Deployment/tenclip", "spec/template/spec/hostNetwork", True, "hostNetwork"),
        ("Deployment/tenclip", "spec/template/spec/volumes/0", {"name": "models", "hostPath": {}}, "not allowed"),
        ("Deployment/tenclip", f"{CONTAINER}/securityContext/readOnlyRootFilesystem", None, "readOnlyRootFilesystem"),
        ("Deployment/tenclip", f"{CONTAINER}/securityContext/capabilities", {"drop": []}, "capabilities is"),
        ("Deployment/tenclip", f"{CONTAINER}/resources/requests/memory", None, "no requests of ['memory']"),
        (
            "Deployment/tenclip",
            "spec/template/spec/volumes/1/emptyDir",
            {"medium": "Memory", "sizeLimit": "4Gi"},
            "more than half",
        ),
        ("Deployment/tenclip", "spec/template/spec/volumes/1/emptyDir/sizeLimit", None, "an emptyDir without"),
        ("Deployment/tenclip", "spec/template/spec/terminationGracePeriodSeconds", 60, "needs 80 s to stop"),
        ("Deployment/tenclip", f"{CONTAINER}/lifecycle", None, "stops before its clients know"),
        ("Deployment/tenclip", "spec/progressDeadlineSeconds", 300, "given up before"),
        ("Deployment/tenclip", f"{CONTAINER}/resources/limits/nvidia.com~1gpu", "1", "runtimeClassName is None"),
        ("Deployment/tenclip", f"{CONTAINER}/resources/limits/nvidia.com~1gpu", "1", "does not tolerate nodes with"),
        ("ServiceAccount/tenclip", "automountServiceAccountToken", None, "hands out tokens"),
        ("Service/tenclip", "metadata/namespace", "default", "namespaces are ['default', 'tenclip']"),
    ],
)
def test_manifests_that_disagree_are_noticed(name: str, path: str, value: object, problem: str) -> None:
    kind, _, name = name.partition("/")
    manifests = build("base")
    broken = named(manifests, kind, name)
    manifests[manifests.index(broken)] = edited(broken, path, value)
    assert any(problem in found for found in find_problems(manifests)), find_problems(manifests)


def test_probes_ask_for_the_service_of_the_wire_contract() -> None:
    (container,) = SOURCES["Deployment/tenclip"]["spec"]["template"]["spec"]["containers"]
    assert container["startupProbe"]["grpc"]["service"] == SERVICE
    assert container["readinessProbe"]["grpc"]["service"] == SERVICE
    # A server whose models have all been unloaded takes no requests, and is not dead.
    assert container["livenessProbe"]["grpc"]["service"] == LIVENESS


@pytest.mark.parametrize("target", TARGETS)
def test_images_and_labels_carry_the_projects_version(target: str) -> None:
    for workload in (m for m in build(target) if m["kind"] in ("Deployment", "Job")):
        template = workload["spec"]["template"]
        (container,) = template["spec"]["containers"]
        image, _, tag = container["image"].partition(":")
        assert image == {"server": "tenclip", "features": "tenclip-batch", "batch": "tenclip-jobs"}[container["name"]]
        assert tag.removesuffix("-gpu") == project_version()
        assert tag.endswith("-gpu") == (target == "overlays/gpu")
        assert template["metadata"]["labels"]["app.kubernetes.io/version"] == project_version()


# --- the page about all this ----------------------------------------------------------------------------------------


def test_paths_in_the_readme_exist() -> None:
    words = (K8S / "README.md").read_text().replace("`", " ").split()
    paths = {word.rstrip(".,:;)") for word in words if word.startswith("k8s/")}
    assert len(paths) >= 4
    assert [path for path in sorted(paths) if not (PROJECT / path).exists()] == []


def test_yaml_files_are_not_empty() -> None:
    templates = K8S / "helm" / "tenclip" / "templates"  # no YAML before they are filled
    assert all(read_yaml(path) for path in K8S.rglob("*.yaml") if templates not in path.parents)
