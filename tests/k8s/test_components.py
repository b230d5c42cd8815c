"""What the components put around the server: certificates, tokens, a gateway's route, models from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from tenclip_api.errors import Unauthenticated
from tenclip_client import Client
from tenclip_serving.api.health import LIVENESS
from tenclip_serving.api.servicer import SERVICE
from tests.k8s.manifests import K8S, build_text, build_with, named
from tests.k8s.wiring import find_problems
from tests.tenclip_serving.helpers import make_bundle, make_video, running_server

# Fields of a Certificate that the manifest uses, as cert-manager's reference of cert-manager.io/v1 has them.
CERTIFICATE_FIELDS = {"secretName", "duration", "renewBefore", "privateKey", "usages", "dnsNames", "issuerRef"}


def server_container(*components: str) -> dict[str, Any]:
    (container,) = named(build_with(*components), "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment(container: dict[str, Any], **places: Path) -> list[str]:
    """Settings of a container as options, its mounts at other places: tls=PATH for /tls."""
    found = []
    for variable in container["env"]:
        if "value" in variable:
            value = variable["value"]
            for mount, path in places.items():
                value = value.replace(f"/{mount}/", f"{path}/")
            found.append(f"--{variable['name'].removeprefix('TENCLIP_').lower().replace('_', '-')}={value}")
    return found


def swap(folder: Path, files: dict[str, bytes], number: int) -> None:
    """What the kubelet does with a secret: a folder with the new files, and one rename of a link to it."""
    made = folder / f"..{number}"
    made.mkdir(parents=True)
    for name, content in files.items():
        (made / name).write_bytes(content)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    (folder / "..new").symlink_to(made.name)
    os.replace(folder / "..new", folder / "..data")


def tokens(*values: str) -> dict[str, bytes]:
    tables = (f'[search-{i}]\ntoken = "{value}"\npermissions = ["predict"]\n' for i, value in enumerate(values))
    return {"tokens.toml": "\n".join(tables).encode()}


def test_a_server_with_tls_and_tokens_is_probed_and_its_token_replaced(tmp_path: Path) -> None:
    """The settings, probe and names of the manifests, on a real server; secrets change as the kubelet changes them."""
    manifests = build_with("tls", "tokens")
    names = named(manifests, "Certificate")["spec"]["dnsNames"]
    authority = trustme.CA()
    certificate = authority.issue_cert(*names)
    tls, secret = tmp_path / "tls", tmp_path / "tokens"
    files = {
        "tls.crt": b"".join(pem.bytes() for pem in certificate.cert_chain_pems),
        "tls.key": certificate.private_key_pem.bytes(),
        "ca.crt": authority.cert_pem.bytes(),
    }
    swap(tls, files, 1)
    swap(secret, tokens("old-old-old-old-old-old-old-old1"), 1)
    make_bundle(tmp_path / "models")
    video = make_video(tmp_path / "a.mp4").read_bytes()
    container = server_container("tls", "tokens")
    settings = environment(container, tls=tls, tokens=secret)
    assert len(settings) == 3
    with running_server(tmp_path / "models", "--runtime", "onnxruntime", *settings) as server:

        def ask(token: str) -> None:
            with Client(server.address, ca=tls / "ca.crt", server_name=names[-1], token=token, retries=0) as client:
                client.predict(video, clips="center")

        for name, service in (("readinessProbe", SERVICE), ("livenessProbe", LIVENESS)):
            probe = container[name]["exec"]["command"]
            command = [word.replace("127.0.0.1:7411", server.address).replace("/tls/", f"{tls}/") for word in probe]
            assert command[0] == "python"
            command[0] = sys.executable
            probed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert probed.returncode == 0, probed.stderr
            assert probed.stdout == f"{service} at {server.address}: SERVING\n"
        ask("old-old-old-old-old-old-old-old1")
        # Both for a while, then the new one alone.
        swap(secret, tokens("old-old-old-old-old-old-old-old1", "new-new-new-new-new-new-new-new2"), 2)
        ask("new-new-new-new-new-new-new-new2")
        ask("old-old-old-old-old-old-old-old1")
        swap(secret, tokens("new-new-new-new-new-new-new-new2"), 3)
        ask("new-new-new-new-new-new-new-new2")
        with pytest.raises(Unauthenticated):
            ask("old-old-old-old-old-old-old-old1")


def test_the_features_job_reaches_a_server_with_tls_and_tokens(tmp_path: Path) -> None:
    """The Job's own arguments and settings, on a real server with the certificate's names and a token."""
    names = named(build_with("tls"), "Certificate")["spec"]["dnsNames"]
    pod = named(build_with("features-tls", "features-token", base="features"), "Job")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    authority = trustme.CA()
    certificate = authority.issue_cert(*names)
    value = "features-features-features-feature"
    swap(tmp_path / "tls", {"ca.crt": authority.cert_pem.bytes()}, 1)
    swap(tmp_path / "token", {"token": f"{value}\n".encode()}, 1)
    for name, content in tokens(value).items():
        (tmp_path / name).write_bytes(content)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    make_bundle(tmp_path / "models")
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "a.mp4")
    served = (f"--tls-certificate={tmp_path}/tls.crt", f"--tls-key={tmp_path}/tls.key")
    with running_server(tmp_path / "models", *served, f"--tokens-file={tmp_path}/tokens.toml") as server:
        command, videos, out, target, *others = container["args"]
        host, _, _ = target.removeprefix("--server=dns:///").partition(":")
        words = [command, f"{tmp_path}{videos}", f"--out={tmp_path}/features.parquet", *others]
        words += [f"--server={server.address}", f"--server-name={host}"]
        ca, token = sorted(environment(container, tls=tmp_path / "tls", token=tmp_path / "token"))
        run = [sys.executable, "-m", "tenclip_client", *words]
        refused = subprocess.run([*run, ca], capture_output=True, text=True, timeout=60, check=False)
        done = subprocess.run([*run, ca, token], capture_output=True, text=True, timeout=60, check=False)
    assert out == "--out=/features/features.parquet"
    assert refused.returncode == 1
    assert "token" in refused.stderr
    assert done.returncode == 0, done.stderr
    # The authority, and not the server's key beside it in the secret.
    (tls,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "tls")
    assert [item["key"] for item in tls["items"]] == ["ca.crt"]
    assert tls["secretName"] == named(build_with("tls"), "Certificate")["spec"]["secretName"]


@pytest.mark.parametrize("components", [("tls",), ("tls", "tokens")], ids=" ".join)
def test_secrets_are_mounted_so_that_they_are_renewed(components: tuple[str, ...]) -> None:
    mounts = {m["name"]: m for m in server_container(*components)["volumeMounts"]}
    for name in components:
        assert "subPath" not in mounts[name], "the kubelet does not renew files that are mounted alone"
        assert mounts[name]["readOnly"]


def test_the_certificate_has_the_names_of_the_services() -> None:
    manifests = build_with("tls")
    spec = named(manifests, "Certificate")["spec"]
    assert spec.keys() == CERTIFICATE_FIELDS
    hosts = [m["metadata"]["name"] for m in manifests if m["kind"] == "Service"]
    ends = ("", ".tenclip", ".tenclip.svc", ".tenclip.svc.cluster.local")
    assert set(spec["dnsNames"]) == {f"{host}{end}" for host in hosts for end in ends}
    (volume,) = (v for v in named(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"] if v["name"] == "tls")
    assert volume["secret"]["secretName"] == spec["secretName"]
    assert int(spec["renewBefore"].removesuffix("h")) < int(spec["duration"].removesuffix("h"))
    server_name = server_container("tls")["readinessProbe"]["exec"]["command"]
    assert server_name[server_name.index("--server-name") + 1] in spec["dnsNames"]


def test_with_tls_no_service_says_that_it_is_not() -> None:
    services = [m for m in build_with("tls") if m["kind"] == "Service"]
    ports = [port for service in services for port in service["spec"]["ports"] if port["name"] == "grpc"]
    assert len(ports) == 2
    assert {port["appProtocol"] for port in ports} == {"https"}


def test_the_route_leads_to_services_that_the_server_has() -> None:
    from tenclip_api.inference import open_inference_pb2
    from tenclip_api.v1 import tenclip_pb2

    manifests = build_with("gateway")
    (rule,) = named(manifests, "GRPCRoute")["spec"]["rules"]
    ours = {s.full_name for pb in (tenclip_pb2, open_inference_pb2) for s in pb.DESCRIPTOR.services_by_name.values()}
    routed = {match["method"]["service"] for match in rule["matches"]}
    assert routed - ours == {"grpc.health.v1.Health"}
    assert ours - routed == {"tenclip.v1.ModelManagement"}, "what changes the models stays inside"
    (backend,) = rule["backendRefs"]
    service = named(manifests, "Service", backend["name"])
    assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]


def test_pods_are_scraped_at_the_port_of_their_metrics() -> None:
    manifests = build_with("podmonitor")
    spec = named(manifests, "PodMonitor")["spec"]
    template = named(manifests, "Deployment")["spec"]["template"]
    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [p["name"] for p in template["spec"]["containers"][0]["ports"]]


@pytest.mark.parametrize("component", ["model-sync-s3", "model-sync-oci"])
def test_models_come_before_the_server_starts_and_need_no_claim(component: str) -> None:
    manifests = build_with(component)
    pod = named(manifests, "Deployment")["spec"]["template"]["spec"]
    (copier,), (server,) = pod["initContainers"], pod["containers"]
    (theirs,) = (m for m in copier["volumeMounts"] if m["name"] == "models")
    (ours,) = (m for m in server["volumeMounts"] if m["name"] == "models")
    assert theirs["mountPath"] == ours["mountPath"] == "/models"
    assert not theirs.get("readOnly")
    assert ours["readOnly"]
    assert not [m for m in manifests if m["kind"] == "PersistentVolumeClaim"]
    (variable,) = re.findall(r"\$\((\w+)\)", " ".join(copier["args"]))
    settings = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    assert variable in settings[copier["envFrom"][0]["configMapRef"]["name"]]
    # It may reach its store, and on EKS the agent that has its keys.
    policy = named(manifests, "NetworkPolicy", "tenclip-model-sync")["spec"]
    open_ports = {rule["ports"][0]["port"]: rule.get("to", []) for rule in policy["egress"]}
    assert open_ports.pop(443) == []
    addresses = {port: [to["ipBlock"]["cidr"] for to in allowed] for port, allowed in open_ports.items()}
    assert addresses == ({80: ["169.254.170.23/32", "fd00:ec2::23/128"]} if component == "model-sync-s3" else {})
    # A tag that says which release, and never "latest".
    assert re.search(r":v?\d+\.\d+\.\d+$", copier["image"])


def test_the_readme_names_every_component() -> None:
    text = (K8S / "README.md").read_text()
    missing = [p.name for p in (K8S / "components").iterdir() if f"components/{p.name}" not in text]
    assert missing == []


OVERLAYS = re.findall(r"```yaml\n(# my-cluster/.*?)```", (K8S / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=range(len(OVERLAYS)))
def test_an_overlay_of_the_readme_builds(overlay: str) -> None:
    manifests = build_text(overlay)
    assert find_problems(manifests) == []
    # And changes what it is about.
    changed = re.findall(r"s3://my-\S+/video|YOURS|registry\.example\.com/\S+", overlay)
    assert changed
    assert [value for value in changed if value not in str(manifests)] == []


def test_the_readme_shows_overlays() -> None:
    assert len(OVERLAYS) == 4
