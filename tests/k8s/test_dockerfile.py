"""The Dockerfile, as the container engines' own parser reads it, against the project and the manifests.

tests/image builds it with buildah, where that is. What its commands do is tested where they run, too: the wheel and its
extras in tests/test_packaging.py, the health check in tests/tenclip_serving/test_healthcheck.py.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from typing import Any

import pytest
import typer

from tenclip_api.v1 import tenclip_pb2
from tenclip_image.locks import TOOLS
from tests.conftest import PROJECT
from tests.image.engine import SBOM
from tests.k8s.manifests import K8S, named, read_yaml
from tests.k8s.pods import pods

if importlib.util.find_spec("dockerfile") is None:
    pytest.skip("needs the dockerfile package (extra dev)", allow_module_level=True)

SERVICE = tenclip_pb2.DESCRIPTOR.services_by_name["VideoRecognition"].full_name
PROJECT_TABLE: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())
# What a user gets: the stage, and the workload that runs it.
IMAGES = {"server": "Deployment", "batch": "Job"}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """`exec_form`: its words are a JSON list, so that no shell takes part. `flags`: --name=value, before the words."""

    name: str
    flags: tuple[str, ...]
    words: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        return [i for i in self.instructions if i.name == name]


# The parser is a Go library, which takes over the handling of signals of its process. So it gets one of its own.
PARSER = """
import dockerfile, json, sys
try:
    commands = dockerfile.parse_string(sys.stdin.read())
except dockerfile.GoParseError as error:
    sys.exit(f"GoParseError: {error}")
print(json.dumps([{k: getattr(c, k) for k in ("cmd", "start_line", "json", "flags", "value")} for c in commands]))
"""


class BrokenDockerfile(Exception):
    pass


def parse_commands(text: str) -> list[dict[str, Any]]:
    """What the parser found: cmd, start_line, json, flags and value of each command."""
    done = subprocess.run([sys.executable, "-c", PARSER], input=text, text=True, capture_output=True, timeout=60)
    if done.returncode:
        raise BrokenDockerfile(done.stderr.strip())
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def parse_stages(text: str) -> dict[str, Stage]:
    """The stages in their order. What stands before the first FROM is left out."""
    stages: list[Stage] = []
    body: list[Instruction] = []
    for command in parse_commands(text):
        if command["cmd"].upper() == "FROM":
            base, _, name = command["value"]
            body = []
            stages.append(Stage(name=name, base=base, instructions=()))
        elif stages:
            body.append(
                Instruction(
                    name=command["cmd"].upper(),
                    flags=tuple(command["flags"]),
                    words=tuple(command["value"]),
                    exec_form=command["json"],
                )
            )
            stages[-1] = Stage(name=stages[-1].name, base=stages[-1].base, instructions=tuple(body))
    return {stage.name: stage for stage in stages}


def inherited(stages: dict[str, Stage], name: str) -> list[Instruction]:
    """All instructions of a stage and of those that it is built on, the deepest first."""
    stage = stages[name]
    return [*(inherited(stages, stage.base) if stage.base in stages else []), *stage.instructions]


def last(stages: dict[str, Stage], stage: str, name: str) -> Instruction:
    return [i for i in inherited(stages, stage) if i.name == name][-1]


TEXT = (PROJECT / "Dockerfile").read_text()
STAGES = parse_stages(TEXT)


def workload(stage: str) -> Any:
    """The pod of the workload that runs an image, its only container included."""
    file = {"server": K8S / "base" / "deployment.yaml", "batch": K8S / "features" / "job.yaml"}[stage]
    return named(read_yaml(file), IMAGES[stage])["spec"]["template"]["spec"]


def parse_options(command: Any, args: tuple[str, ...]) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(command)
    return dict(typer.main.get_command(app).make_context("tenclip", list(args)).params)


def test_the_server_is_what_a_plain_build_makes() -> None:
    assert list(STAGES)[-1] == "server"


def test_final_images_start_from_the_slim_base_and_take_only_an_environment() -> None:
    argument = next(c for c in parse_commands(TEXT) if c["cmd"].upper() == "ARG")
    name, _, image = argument["value"][0].partition("=")
    match = re.fullmatch(r"python:(\d+)\.(\d+)-slim-\w+", image)
    assert match
    minimum = PROJECT_TABLE["project"]["requires-python"].removeprefix(">=").split(".")
    assert tuple(map(int, match.groups())) >= tuple(map(int, minimum))
    for stage in IMAGES:
        assert STAGES[stage].base == "runtime"
        assert STAGES["runtime"].base == f"${{{name}}}"
        copies = [i for i in inherited(STAGES, stage) if i.name in ("COPY", "ADD")]
        assert [(*i.flags, *i.words) for i in copies] == [
            (f"--from={'serve' if stage == 'server' else stage}-environment", "/opt/tenclip", "/opt/tenclip")
        ]
        runs = [word for i in inherited(STAGES, stage) if i.name == "RUN" for word in i.words]
        assert not re.search(r"\b(pip|apt-get|curl|wget)\b", " ".join(runs))


@pytest.mark.parametrize("stage", IMAGES)
def test_images_run_as_the_user_of_their_pods(stage: str) -> None:
    (user,) = last(STAGES, stage, "USER").words
    context = workload(stage)["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert int(user.partition(":")[0]) > 0


@pytest.mark.parametrize("stage", IMAGES)
def test_scratch_and_home_are_where_pods_mount_something_writable(stage: str) -> None:
    environment = [i.words for i in inherited(STAGES, stage) if i.name == "ENV"]
    pairs = {k: v for words in environment for k, v in zip(words[::2], words[1::2], strict=True)}
    mounts = {m["mountPath"]: m for m in workload(stage)["containers"][0]["volumeMounts"]}
    assert pairs["HOME"] == last(STAGES, stage, "WORKDIR").words[0] == "/tmp"
    assert not mounts["/tmp"].get("readOnly")
    assert pairs["PATH"].startswith("/opt/tenclip/bin:")
    # A root file system that is read-only takes no bytecode.
    assert pairs["PYTHONDONTWRITEBYTECODE"] == "1"


@pytest.mark.parametrize("stage", IMAGES)
def test_labels_are_those_of_the_project(stage: str) -> None:
    (instruction,) = [i for i in inherited(STAGES, stage) if i.name == "LABEL"]
    labels = {k: v.strip('"') for k, v in zip(instruction.words[::2], instruction.words[1::2], strict=True)}
    project = PROJECT_TABLE["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert labels["org.opencontainers.image.title"] == project["name"]
    assert labels["org.opencontainers.image.description"] == project["description"]
    arguments = {word.partition("=")[0] for i in STAGES["runtime"].all("ARG") for word in i.words}
    for name in ("source", "revision", "created"):
        assert labels[f"org.opencontainers.image.{name}"] == f"${{{name.upper()}}}"
        assert name.upper() in arguments


def test_the_entry_point_serves_the_mounted_models_to_everyone() -> None:
    from tenclip_serving.commands import serve

    entry_point = last(STAGES, "server", "ENTRYPOINT")
    assert entry_point.exec_form  # a shell would be process 1 and keep SIGTERM from the server
    program, command, *args = entry_point.words
    assert (program, command) == ("tenclip", "serve")
    options = parse_options(serve, tuple(args))
    assert options["host"] == "0.0.0.0"
    mounts = [m["mountPath"] for m in workload("server")["containers"][0]["volumeMounts"]]
    assert str(options["directory"]) in mounts
    assert last(STAGES, "server", "STOPSIGNAL").words == ("SIGTERM",)


def test_the_ports_are_the_servers_own() -> None:
    from tenclip_serving.config import ServerConfig

    ports = [int(p) for p in last(STAGES, "server", "EXPOSE").words]
    assert ports == [ServerConfig.port, ServerConfig.metrics_port]
    assert ports == [p["containerPort"] for p in workload("server")["containers"][0]["ports"]]


def test_the_health_check_asks_the_server_beside_it() -> None:
    from tenclip_serving import healthcheck

    check = last(STAGES, "server", "HEALTHCHECK")
    assert check.exec_form
    kind, python, option, module, target, *rest = check.words
    assert (kind, python, option, module) == ("CMD", "python", "-m", healthcheck.__name__)
    assert target == healthcheck.DEFAULT_TARGET
    assert rest == ["--service", SERVICE]
    flags = dict(flag.removeprefix("--").split("=") for flag in check.flags)
    timeout = inspect.signature(healthcheck.check_health).parameters["timeout_seconds"].default
    # It says what is wrong before it is killed, and the interpreter needs a moment to start.
    assert timeout + 1 < int(flags["timeout"].removesuffix("s"))


def test_the_jobs_entry_point_is_the_command_line() -> None:
    assert last(STAGES, "batch", "ENTRYPOINT").words == ("tenclip",)
    assert last(STAGES, "batch", "ENTRYPOINT").exec_form


def test_the_training_image_has_torch_and_runs_as_the_pods_of_its_runtime() -> None:
    (copied,) = (i for i in STAGES["train"].all("COPY"))
    assert "--from=train-environment" in copied.flags or "--from=train-environment" in copied.words
    assert any("--extras train " in word for i in STAGES["train-environment"].all("RUN") for word in i.words)
    assert last(STAGES, "train", "ENTRYPOINT").words == ("tenclip",)
    (user,) = last(STAGES, "train", "USER").words
    (pod,) = pods(read_yaml(K8S / "train" / "runtime.yaml"))
    context = pod.spec["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_every_installation_is_by_lock_or_by_the_constraints() -> None:
    runs = [word for s in STAGES.values() for i in s.all("RUN") for word in i.words]
    assert not any(re.search(r"\bpip3? ", run) for run in runs)
    extras = [match[1] for run in runs if (match := re.search(r"-m tenclip_image\.install .*--extras (\S+)", run))]
    assert extras == ["build", "sbom", '"${EXTRA}"', "batch", "train"]
    assert {"build", *PROJECT_TABLE["build-system"]["requires"]} == set(TOOLS["build"])
    # What has no lock, such as train, is installed by these.
    assert ("constraints.txt", "/image/") in [i.words for i in STAGES["environment"].all("COPY")]


@pytest.mark.parametrize("stage", ["serve", "batch", "train"])
def test_every_image_has_a_bill_of_materials(stage: str) -> None:
    assert STAGES[f"{stage}-environment"].base == "environment"
    (install,) = [w for i in STAGES[f"{stage}-environment"].all("RUN") for w in i.words if "tenclip_image" in w]
    assert "--sbom /opt/sbom" in install
    assert "install /opt/tenclip " in install
    assert SBOM == "/opt/tenclip/sbom.cdx.json"  # so the image gets it together with the environment


def run_guard(stage: str, text: str, **arguments: str) -> str:
    """Runs the first RUN of a stage with which `text` has to do; what it complained of."""
    (command,) = [word for i in STAGES[stage].all("RUN")[:1] for word in i.words if text in word]
    done = subprocess.run(["/bin/sh", "-c", command], env={**os.environ, **arguments}, capture_output=True, text=True)
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def test_a_release_needs_a_base_with_a_digest() -> None:
    pinned = "python:3.11-slim-bookworm@sha256:" + "0" * 64
    assert run_guard("wheel", "RELEASE", RELEASE="1", PYTHON_IMAGE=pinned) == ""
    assert run_guard("wheel", "RELEASE", RELEASE="0", PYTHON_IMAGE="python:3.11") == ""
    assert "needs PYTHON_IMAGE by digest" in run_guard("wheel", "RELEASE", RELEASE="1", PYTHON_IMAGE="python:3.11")


def test_a_base_of_another_architecture_is_noticed() -> None:
    own = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if own is None:
        pytest.skip(f"images are for amd64 and arm64, this machine is {platform.machine()}")
    other = {"amd64": "arm64", "arm64": "amd64"}[own]
    assert run_guard("environment", "TARGETARCH", TARGETARCH=own) == ""
    assert run_guard("environment", "TARGETARCH", TARGETARCH="") == ""  # buildah does not say it in a build for itself
    assert f"for {other} is asked" in run_guard("environment", "TARGETARCH", TARGETARCH=other)


def requirements(extra: str) -> set[str]:
    """Names of what an extra asks for, the extras that it names included."""
    found = set()
    for requirement in PROJECT_TABLE["project"]["optional-dependencies"][extra]:
        name = re.match(r"[\w-]+", requirement)
        assert name
        if name[0] == "tenclip":
            for inner in re.findall(r"[\w-]+", requirement.partition("[")[2].partition("]")[0]):
                found |= requirements(inner)
        else:
            found.add(name[0])
    return found


def test_the_images_extras_exist_and_name_no_torch() -> None:
    (argument,) = STAGES["serve-environment"].all("ARG")
    assert argument.words == ("EXTRA=serve",)
    for extra in ("serve", "gpu", "batch", "jobs"):
        assert requirements(extra)
        assert "torch" not in requirements(extra)
    assert "torch" in requirements("train")  # the check sees it where it is
    assert "pyarrow" in requirements("batch")
    # And what others bring is looked at where it is installed.
    assert any("find_spec('torch')" in word for i in STAGES["serve-environment"].all("RUN") for word in i.words)


def test_the_builder_gets_all_that_the_wheel_is_made_of_and_nothing_else() -> None:
    sources = {word for i in STAGES["wheel"].all("COPY") for word in i.words[:-1]}
    assert all((PROJECT / source).exists() for source in sources)
    project = PROJECT_TABLE["project"]
    packages = PROJECT_TABLE["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {project["readme"], *project["license-files"], *(p.partition("/")[0] for p in packages)}
    assert sources == {"pyproject.toml", "k8s/image", *needed}
    ignored, *rules = [
        line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert ignored == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {*sources, "constraints.txt"}
    assert {rule for rule in rules if not rule.startswith("!")} == {"**/__pycache__", "**/*.py[cod]"}


def test_copies_are_from_stages_that_are_there() -> None:
    seen: set[str] = set()
    for stage in STAGES.values():
        for copy in stage.all("COPY"):
            assert all(flag.removeprefix("--from=") in seen for flag in copy.flags)
        seen.add(stage.name)


def test_every_named_image_carries_the_projects_version() -> None:
    texts = [TEXT, (K8S / "README.md").read_text()]
    versions = {version for text in texts for version in re.findall(r"\btenclip(?:-batch)?:(\d+\.[\w.]*\d)", text)}
    assert versions == {PROJECT_TABLE["project"]["version"]}


def test_every_instruction_is_one_and_has_its_words() -> None:
    # The parser leaves both to the engine.
    shape = {"ARG", "COPY", "ENV", "LABEL", "RUN", "USER", "WORKDIR"}
    behaviour = {"CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"}
    instructions = [i for stage in STAGES.values() for i in stage.instructions]
    assert {i.name for i in instructions} <= shape | behaviour
    assert all(i.words and all(i.words) for i in instructions)


def test_broken_files_are_noticed() -> None:
    with pytest.raises(BrokenDockerfile, match="GoParseError"):
        parse_stages("FROM a AS b\nENV x")
    stages = parse_stages("FROM a AS b\nUSER 0\nFROM b AS c\nENTRYPOINT tenclip serve\n")
    assert not last(stages, "c", "ENTRYPOINT").exec_form  # a shell takes part, and is seen
    assert last(stages, "c", "USER").words == ("0",)
