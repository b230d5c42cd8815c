"""Batch work and training in pods: the commands are those of this project, and take their options."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.main import GROUP, build_command
from tests.k8s.edits import edited
from tests.k8s.manifests import Manifest, build, build_with, named, project_version
from tests.k8s.pods import pods
from tests.k8s.wiring import check_selectors


def options(words: list[str]) -> dict[str, Any]:
    """The values of a command's options, as its own parser reads them."""
    from importlib.metadata import entry_points

    registered = {e.name: e for e in entry_points(group=GROUP)}
    name, *arguments = words
    found: Any = build_command(registered, name).commands[name]
    while sub_commands := getattr(found, "commands", {}):
        name, *arguments = arguments
        found = sub_commands[name]
    return dict(found.make_context(name, list(arguments)).params)


def batch_words() -> list[str]:
    (container,) = named(build("batch"), "Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tenclip"]
    return list(container["args"])


def ray_words() -> list[str]:
    program, *words = shlex.split(named(build("ray"), "RayJob")["spec"]["entrypoint"])
    assert program == "tenclip"
    return words


def mounts(pod: Manifest) -> dict[str, bool]:
    """Where volumes are mounted, and whether one may write there."""
    return {m["mountPath"]: not m.get("readOnly", False) for m in pod["volumeMounts"]}


def check_paths(words: list[str], container: Manifest) -> None:
    """Each path of a command lies on a volume, and what it writes on one that may be written to."""
    mounted = mounts(container)
    for word in words:
        option, _, value = word.rpartition("=")
        if value.startswith("/"):
            (root,) = (root for root in mounted if Path(value).is_relative_to(root))
            assert mounted[root] is (option == "--out"), word


def test_the_batch_job_takes_its_options_and_writes_where_it_may() -> None:
    (container,) = named(build("batch"), "Job")["spec"]["template"]["spec"]["containers"]
    check_paths(batch_words(), container)
    given, limits = options(batch_words()), container["resources"]["limits"]
    assert given["threads"] == int(limits["cpu"])
    # Two decode processes, and as much again for the model and the clips.
    assert 4 * given["decode_worker_memory_mb"] <= int(limits["memory"].removesuffix("Gi")) << 10


def test_the_ray_job_does_what_the_batch_job_does_on_a_cluster() -> None:
    words = ray_words()
    # An actor has a thread for each core that it reserves, and the memory of the pods is another.
    sizes = ("--threads=", "--decode-worker-memory-mb=")
    joined = [word.replace("=", " ") for word in batch_words() if not word.startswith(sizes)]
    assert " ".join(words) == " ".join([*joined, "--engine ray --ray-address auto"])
    for pod in pods(build("ray")):
        (container,) = pod.containers
        assert {"/videos", "/models", "/datasets"} <= mounts(container).keys()
    found = options(words)
    assert (found["engine"], found["ray_address"]) == ("ray", "auto")


def test_the_cluster_runs_the_version_of_ray_that_is_tested() -> None:
    ray = pytest.importorskip("ray", reason="pip install 'tenclip[ray]'")
    assert named(build("ray"), "RayJob")["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__


def test_the_head_does_no_work_and_every_pod_has_the_same_image() -> None:
    cluster = named(build("ray"), "RayJob")["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    images = {c["image"] for pod in pods(build("ray")) for c in pod.containers}
    assert images == {f"tenclip-ray:{project_version()}"}


def test_only_rays_own_pods_and_its_operator_reach_the_job_api() -> None:
    manifests = build("ray")
    own, operator = named(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert own == {"from": [{"podSelector": named(manifests, "NetworkPolicy")["spec"]["podSelector"]}]}
    (peer,) = operator["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "kuberay-operator"}
    assert [port["port"] for port in operator["ports"]] == [8265]
    cluster = named(manifests, "RayJob")["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    # The first release of Ray that knows tokens.
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)


@pytest.mark.parametrize("target", ["batch", "features", "ray", "train"])
def test_every_job_has_a_network_policy_that_lets_it_reach_names_and_what_it_must_only(target: str) -> None:
    manifests = build(target)
    spec = named(manifests, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert all(spec["podSelector"]["matchLabels"].items() <= pod.labels.items() for pod in pods(manifests))
    peers = [peer for rule in spec.get("egress", []) for peer in rule["to"]]
    reached = [peer["podSelector"]["matchLabels"] for peer in peers]
    own, names = spec["podSelector"]["matchLabels"], {"k8s-app": "kube-dns"}
    server = own | {"app.kubernetes.io/component": "server"}
    assert reached == {"batch": [], "features": [server, names], "ray": [own, names], "train": [own, names]}[target]


def test_pods_that_a_policy_leaves_out_are_noticed() -> None:
    manifests = build("ray")
    place = "spec/rayClusterSpec/workerGroupSpecs/0/template/metadata/labels/app.kubernetes.io~1component"
    job = named(manifests, "RayJob")
    manifests[manifests.index(job)] = edited(job, place, "rays")
    found = list(check_selectors(manifests))
    assert found == ["NetworkPolicy/tenclip-ray: podSelector selects some pods only of ['RayJob/tenclip-ray']"]


def test_videos_that_cannot_be_used_make_no_second_cluster() -> None:
    assert named(build("ray"), "RayJob")["spec"]["backoffLimit"] == 0


def test_a_spot_nodes_end_is_not_counted_and_a_mistake_is_not_repeated() -> None:
    spec = named(build("batch"), "Job")["spec"]
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert ignore["action"] == "Ignore"
    assert ignore["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [2, SOME_FAILED])
    assert fail["onExitCodes"]["containerName"] in [c["name"] for c in spec["template"]["spec"]["containers"]]
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] <= 30  # the shortest notice of the large clouds


def test_a_video_that_cannot_be_used_costs_no_second_pod() -> None:
    spec = named(build("features"), "Job")["spec"]
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert (ignore["action"], fail["action"], fail["onExitCodes"]["values"]) == ("Ignore", "FailJob", [2, SOME_FAILED])


def test_the_train_job_is_one_of_the_runtime_and_resumes() -> None:
    manifests = build("train")
    runtime, job = named(manifests, "TrainingRuntime"), named(manifests, "TrainJob")
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert job["spec"]["runtimeRef"]["kind"] == runtime["kind"]
    (pod,) = pods(manifests)
    (container,) = pod.containers
    trainer = job["spec"]["trainer"]
    assert trainer["image"] == container["image"] == f"tenclip-train:{project_version()}"
    assert trainer["resourcesPerNode"] == container["resources"]
    assert trainer["numProcPerNode"] == int(container["resources"]["limits"]["nvidia.com/gpu"])
    check_paths(trainer["args"], container)
    # The name that the trainer puts the job's command, image and resources into.
    assert runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["name"] == container["name"] == "node"
    launcher = trainer["command"][: trainer["command"].index("tenclip")]
    assert launcher[0] == "torchrun"
    assert "--no-python" in launcher
    _, *words = trainer["command"][len(launcher) :]
    assert options([*words, *trainer["args"]])["resume_if_exists"] is True


def test_torchrun_takes_its_options() -> None:
    run = pytest.importorskip("torch.distributed.run", reason="pip install 'tenclip[train]'")
    trainer = named(build("train"), "TrainJob")["spec"]["trainer"]
    _, *words = trainer["command"]
    parsed = run.get_args_parser().parse_args([*words, *trainer["args"]])
    assert parsed.no_python
    assert parsed.max_restarts > 0
    assert [parsed.training_script, *parsed.training_script_args] == ["tenclip", "train", *trainer["args"]]


@pytest.mark.parametrize(
    ("component", "resource"),
    [("gpu-mig", "nvidia.com/mig-1g.18gb"), ("gpu-time-slicing", "nvidia.com/gpu.shared")],
)
def test_a_part_of_a_gpu_takes_the_place_of_a_whole_one(component: str, resource: str) -> None:
    (container,) = named(build_with(component), "Deployment")["spec"]["template"]["spec"]["containers"]
    for kind in ("requests", "limits"):
        assert {k: v for k, v in container["resources"][kind].items() if "nvidia" in k} == {resource: "1"}
    assert named(build_with(component), "ConfigMap")["data"]["TENCLIP_RUNTIME"] == "gpu"
    assert container["image"].endswith("-gpu")
