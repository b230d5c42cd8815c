"""The wheel, installed as users install it: alone it is the client, with `[serve]` the server, never torch.

The development environment has everything, so only a fresh one shows an import that an extra forgot.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PACKAGES = (
    "tenclip_api",
    "tenclip_client",
    "tenclip_data",
    "tenclip_settings",
    "tenclip_demo",
    "tenclip_export",
    "tenclip_features",
    "tenclip_findings",
    "tenclip_serving",
    "tenclip_training",
    "tenclip_ui",
    "tenclip_video",
)


# The pip of this environment: to give each fresh one a pip of its own would take longer than what is installed.
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def run(*command: str | Path, timeout: float = 240, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False)
    if check:
        assert result.returncode == 0, f"{command}: {result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, PROJECT)
    (built,) = out.glob("tenclip-*.whl")
    return built


def install(wheel: Path, extra: str, folder: Path) -> None:
    """The wheel and one extra into an environment. Skips without a package index."""
    pip = (*PIP, "--python", folder, "install", "--quiet", "--no-compile")
    result = run(*pip, "-c", PROJECT / "constraints.txt", f"{wheel}{extra}", check=False)
    if result.returncode and "No matching distribution" in result.stderr:
        pytest.skip(f"the package index cannot be reached: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr


def test_the_wheel_holds_every_package_with_its_types_and_protos(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    assert "tenclip_api/v1/tenclip.proto" in names
    assert "tenclip_api/v1/tenclip_pb2.pyi" in names
    assert {f"tenclip_ui/static/{name}" for name in ("index.html", "main.js", "page.css", "icon.svg")} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "demo/"))]


@pytest.mark.slow
def test_the_bare_wheel_is_the_client_and_the_serve_extra_a_server_without_torch(wheel: Path, tmp_path: Path) -> None:
    """First what it is alone, in a fresh environment; then with the extra, in the same one."""
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    install(wheel, "", environment)
    check_client(environment / "bin", wheel, tmp_path)
    install(wheel, "[serve]", environment)
    check_server(environment / "bin", tmp_path)


def check_client(bin: Path, wheel: Path, folder: Path) -> None:
    assert "predict" in run(bin / "tenclip", "--help").stdout
    assert run(bin / "tenclip", "--version").stdout.strip().endswith(wheel.name.split("-")[1])
    imports = "import tenclip_client, sys; sys.exit(bool({'numpy', 'torch', 'av'} & set(sys.modules)))"
    run(bin / "python", "-c", imports)
    # No server there: our own message, not a stack trace.
    video = folder / "x.mp4"
    video.write_bytes(b"not empty")
    failed = run(bin / "tenclip", "predict", video, "--server", "127.0.0.1:9", check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "127.0.0.1:9" in failed.stdout + failed.stderr
    # A command whose extra is missing names it.
    for command, extra in (("train", "train"), ("serve", "serve"), ("inspect", "video"), ("export", "export")):
        missing = run(bin / "tenclip", command, video, check=False)
        assert missing.returncode != 0
        assert f"tenclip[{extra}]" in missing.stderr, f"{command}: {missing.stderr}"


def check_server(bin: Path, folder: Path) -> None:
    assert "torch" not in run(*PIP, "--python", bin.parent, "list").stdout.lower().split()
    models = folder / "models"
    models.mkdir()
    server = subprocess.Popen(
        [bin / "tenclip", "serve", models, "--port", "0", "--metrics-port", "-1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            pytest.fail(f"the server said nothing; its log: {server.communicate(timeout=30)[1]}")
        address = line.split(" on ")[1].split(",")[0].strip()
        assert run(bin / "tenclip", "models", "--server", address, "--json").stdout.strip().startswith(("[", "{"))
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0
