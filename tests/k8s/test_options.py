"""The real commands take the options of the manifests, and those that belong together agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.k8s.manifests import K8S, build, label, named, source_manifests
from tests.k8s.wiring import arguments

SOURCES = {label(m): m for m in source_manifests()}


def parse(command: Callable[..., None], args: list[str]) -> dict[str, Any]:
    """The values of a sub-command's options, as its own parser reads `args`; typer's error if it does not take them."""
    app = typer.Typer()
    app.command()(command)
    return dict(typer.main.get_command(app).make_context("tenclip", list(args)).params)


@pytest.mark.parametrize("target", ["base", "overlays/gpu", "overlays/monitoring"])
def test_the_server_takes_its_options(target: str, tmp_path: Path) -> None:
    from tenclip_serving.commands import serve
    from tenclip_serving.config import ServerConfig

    manifests = build(target)
    deployment = named(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    options = parse(serve, ["/models", "--host", "0.0.0.0", *arguments(deployment, manifests)])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert options["port"] == ports["grpc"]
    assert options["metrics_port"] == ports["metrics"]
    assert options["log_format"] == "json"
    # On a pod with a GPU "auto" would be the processor where that GPU cannot be used.
    assert options["runtime"] == ("gpu" if target == "overlays/gpu" else "auto")
    assert options["threads"] == int(container["resources"]["limits"]["cpu"])
    assert not options["allow_roots"]
    # Within the limits that the server itself sets.
    settings = {
        key: options[key]
        for key in ("threads", "decode_workers", "decode_worker_memory_mb", "max_message_mb", "shutdown_grace_seconds")
    }
    config = ServerConfig(directory=tmp_path, **settings)
    assert config.decode_workers > 0


def test_the_job_takes_its_options_and_reaches_the_service() -> None:
    from tenclip_client._channel import parse_target
    from tenclip_client.commands import features

    job, base = named(build("features"), "Job"), build("base")
    command, *args = arguments(job, [])
    assert command == "features"
    options = parse(features, args)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert [mounts[video] for video in options["videos"]] == [True]
    assert mounts[str(options["out"].parent)] is False
    assert parse_target(options["server"]) == options["server"]
    host, _, port = options["server"].removeprefix("dns:///").partition(":")
    service = named(base, "Service", host)
    assert int(port) in [p["port"] for p in service["spec"]["ports"]]
    assert service["spec"]["clusterIP"] == "None"
    assert options["wait"]
    # The server's pods are those that the job's network policy lets it reach, on the port that they listen on.
    rule = named(build("features"), "NetworkPolicy")["spec"]["egress"][0]
    assert rule["to"][0]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    pod = named(base, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert rule["ports"][0]["port"] in [p["containerPort"] for p in pod["ports"]]


def test_the_job_uses_the_account_of_the_base() -> None:
    account = named(build("features"), "Job")["spec"]["template"]["spec"]["serviceAccountName"]
    assert named(build("base"), "ServiceAccount")["metadata"]["name"] == account


def test_an_option_that_the_server_lost_is_noticed() -> None:
    from tenclip_serving.commands import serve

    app = typer.Typer()
    app.command()(serve)
    result = CliRunner().invoke(app, ["/models", "--cuda"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr


def test_the_settings_file_is_what_the_deployment_uses() -> None:
    lines = (K8S / "base" / "server.env").read_text().splitlines()
    settings = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    (container,) = SOURCES["Deployment/tenclip"]["spec"]["template"]["spec"]["containers"]
    used = {a.partition("$(")[2].rstrip(")") for a in container["args"] if "$(" in a}
    assert used - {variable["name"] for variable in container["env"]} == settings
