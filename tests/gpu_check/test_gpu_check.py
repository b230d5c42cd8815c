"""The whole script at tiny sizes on the CPU: every branch but CUDA's. And what it says where it cannot run."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenclip_serving.runtimes import cuda
from tests.conftest import PROJECT
from tests.gpu_check import __main__ as program
from tests.gpu_check import paths, wheels
from tests.gpu_check.page import BEGIN, END, write_page
from tests.gpu_check.step_exactness import allowed
from tests.gpu_check.step_training import largest_difference
from tests.gpu_check.steps import BY_NAME

WAYS = {"eager", "channels-last", "2D", "2D, padded", "fused", "fused, padded"}


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of a dry run, with its page under "page"."""
    folder = tmp_path_factory.mktemp("gpu-check")
    page = folder / "gpu.md"
    page.write_text(f"# Mine\n\n{BEGIN}\nwhat was here before\n{END}\n\nafter\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tests.gpu_check",
        "--dry-run",
        "--out",
        str(folder / "gpu.json"),
        "--page",
        str(page),
    ]
    command += ["--wheels", str(folder / "none")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    return found | {"page": page.read_text(encoding="utf-8"), "folder": folder}


@pytest.mark.slow
class TestDryRun:
    def test_every_step_ran(self, dry: dict[str, Any]) -> None:
        assert list(dry["steps"]) == list(BY_NAME)
        assert {step["status"] for step in dry["steps"].values()} == {"done"}
        assert dry["dry_run"]

    def test_every_way_is_right_and_timed(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["speed"]["result"]
        assert {(r["network"], r["way"]) for r in found["rows"]} == {
            (network, way) for network in ("r2plus1d_34 4x32", "r2plus1d_18 4x32") for way in WAYS
        }
        assert all(row["ms"] > 0 and row["share"] > 0 and row["right"] for row in found["rows"])
        assert all(check["relative_l2"] > 1e-5 for check in found["checks"]), "bfloat16 it is"
        assert found["goal"]["wanted"] == 0.5

    def test_golden_clips_of_five_networks(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["exactness"]["result"]
        networks = ("r2plus1d_34", "r2plus1d_18", "resnets3d_r3d_50", "slowonly_r50", "ir_csn_50")
        assert {(r["network"].split()[0], r["precision"], r["form"]) for r in found["rows"]} == {
            (n, p, f) for n in networks for p in ("fp32", "tf32", "fp16", "bf16") for f in ("plain", "served")
        }
        assert found["passed"]
        assert all(row["equal"] for row in found["graphs"])

    def test_layers_add_up(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["layers"]["result"]
        assert sum(r["count"] for r in found["rows"]) == 2 * (1 + 2 * 4) + 3
        total = sum(r["count"] * r["ms"] for r in found["rows"])
        assert math.isclose(found["layers_ms"], total)
        parts = found["floors_ms"] + sum(found["lost_ms"].values()) + found["between_ms"]
        assert math.isclose(parts, found["whole_ms"])
        assert found["unfused"] == []

    def test_videos_are_served(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["served"]["result"]
        assert found["limited_by"] in ("decoding", "the GPU")
        assert all(row["videos_per_second"] > 0 and row["mean_batch"] >= 1 for row in found["rows"])

    def test_a_full_device(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["memory"]["result"]
        assert found["split"]
        assert found["answered"]
        assert found["lives"]
        assert found["relative_l2"] < 1e-2

    def test_training(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["training"]["result"]
        assert len(found["rows"]) == 5
        assert all("error" not in row for row in found["rows"])
        assert found["loss"]["passed"]
        assert found["loss"]["losses"]["fp32"] != found["loss"]["losses"]["bf16"]
        assert found["loader"]["bound_by"] in ("the loader", "computing")

    def test_compiled(self, dry: dict[str, Any]) -> None:
        rows = dry["steps"]["compile"]["result"]["rows"]
        assert all(row.get("right") for row in rows), rows

    def test_libraries_and_decoder_say_what_they_lack(self, dry: dict[str, Any]) -> None:
        found = dry["steps"]["libraries"]["result"]
        assert {parsed["onnx"] for parsed in found["parsers"].values()} == {"ok"}
        assert found["parsers"]["fp16"]["onnxruntime"] == "ok"
        assert not found["runtimes"]["tensorrt"]["runs"]
        assert "TensorRT needs" in found["runtimes"]["tensorrt"]["why"]
        assert dry["steps"]["nvdec"]["result"]["cpu_frames_per_second"] > 0

    def test_the_page_has_its_tables(self, dry: dict[str, Any]) -> None:
        page = dry["page"]
        assert page.startswith("# Mine\n")
        assert page.endswith("\n\nafter\n")
        assert "what was here before" not in page
        assert page.count("\n### ") == len(BY_NAME)
        assert "Dry run on a CPU at tiny sizes: no figure of it means anything" in page
        assert str(PROJECT) not in page
        assert "/gpu-check-" not in json.dumps(dry["steps"])


@pytest.mark.skipif(cuda.gpu_name() is not None, reason="this machine has a GPU")
def test_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--out", str(tmp_path / "gpu.json"), "--page", str(tmp_path / "gpu.md")]) == 2
    said = capsys.readouterr().err
    assert "no NVIDIA GPU here, or no driver for it (libcuda.so.1); torch is 2." in said
    assert "--dry-run" in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paths.NEEDED, "no_such_module.inner", "no-such-package")
    said = program.what_is_missing(dry=True)
    assert said is not None
    assert "not installed here: no-such-package" in said
    assert "make gpu-wheels" in said


def test_every_package_is_asked_for_before_the_steps_begin() -> None:
    """What steps and preparation import at the head of a module, and the modules of ours that they import in turn."""
    ours = {package: room for room in paths.ROOMS for package in names(PROJECT / room)} | {"tests": ""}
    todo = [f"tests.gpu_check.{path.stem}" for path in (PROJECT / "tests" / "gpu_check").glob("*.py")]
    seen: set[str] = set()
    found: set[str] = set()
    while todo:
        module = todo.pop()
        top = module.partition(".")[0]
        if module.startswith("tests.gpu_check.test_") or module in seen or top in sys.stdlib_module_names:
            continue
        if top not in ours:
            found.add(top)
            continue
        seen.add(module)
        path = PROJECT / ours[top] / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path.exists():  # else a name of a module
            todo += [*parents(module), *imported_by(path)]
    known = {name.partition(".")[0] for name in paths.NEEDED} | {"torch", "numpy", "google"}
    assert sorted(found - known) == []
    assert {"PIL", "onnx_ir", "ml_dtypes", "grpc"} <= found


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if (path / "__init__.py").exists()]


def parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def imported_by(path: Path) -> list[str]:
    """Modules that are imported when that one is; names of a module among them."""
    found: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_arguments_that_mean_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--dry-run", "--steps", "fast"]) == 2
    assert "no step named fast; there are: machine, speed" in capsys.readouterr().err
    for value in ("0", "-1", "soon", "nan"):
        with pytest.raises(SystemExit):
            program.parse([f"--minutes={value}"])
        assert f"{value!r} is not a number of minutes above 0 and up to 600" in capsys.readouterr().err


def test_a_page_without_a_place_for_tables(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text("# Nothing\n")
    with pytest.raises(ValueError, match=r"gpu\.md has no place for the tables: it needs the lines <!-- gpu-check"):
        write_page(page, {"when": "", "machine": "", "dry_run": True, "steps": {}})
    assert page.read_text() == "# Nothing\n"


def test_the_page_of_a_run_elsewhere(dry: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"{BEGIN}{END}\n", encoding="utf-8")
    command = [sys.executable, "-m", "tests.gpu_check.page", str(dry["folder"] / "gpu.json"), str(page)]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=600)
    assert page.read_text(encoding="utf-8").strip() in dry["page"]


def test_the_documented_page_has_its_place() -> None:
    text = (PROJECT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)
    assert all(f"| `{name}` |" in text for name in BY_NAME)


def test_bounds() -> None:
    assert allowed("fp32", 1e-7, 0.01) == 1e-4
    assert allowed("fp32", 1e-5, 0.01) == pytest.approx(3e-4)
    assert allowed("bf16", 1e-5, 0.01) == 0.05
    assert allowed("bf16", 1e-5, 0.04) == pytest.approx(0.12)
    assert allowed("tf32", 1e-5, 0.04) == allowed("fp16", 1e-5, 0.04) == pytest.approx(0.015)


def test_losses_that_are_no_numbers_are_seen() -> None:
    assert largest_difference([1.0, 3.0, 2.0, 2.2], [2.0] * 4, window=2) == pytest.approx(0.05)
    assert math.isnan(largest_difference([1.0, math.nan, 1.0], [1.0] * 3, window=1))
    assert largest_difference([1.0, 1.0], [1.0, 1.0], window=1) == 0


class TestWheels:
    def test_versions_are_the_pinned_ones(self) -> None:
        found = wheels.pinned_versions("av==18.1.0\n# a note\nnumpy>=2\nGrpcio==1.85.1  # why\n")
        assert found == {"av": "18.1.0", "grpcio": "1.85.1"}
        pinned = wheels.pinned_versions((PROJECT / "constraints.txt").read_text(encoding="utf-8"))
        assert set(wheels.PACKAGES) <= set(pinned)

    def test_what_does_not_fit_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def download(requirement: str, out: Path, python: str) -> None:
            size = 3 << 20 if requirement.startswith("av==") else 1 << 10
            (out / f"{requirement}-{python}.whl").write_bytes(bytes(size))

        monkeypatch.setattr(wheels, "download", download)
        limit = wheels.tree_mib() + 1
        assert wheels.main(["--out", str(tmp_path), "--limit", str(limit)]) == 1
        assert "left out, beyond" in (said := capsys.readouterr()).err
        assert said.err.strip().endswith("MiB: av")
        assert not list(tmp_path.glob("av*"))
        assert len(list(tmp_path.iterdir())) == len(wheels.PACKAGES) - 1

    def test_the_tree_leaves_room(self) -> None:
        """64 MiB are carried, and PyAV's wheel alone has 35."""
        assert wheels.tree_mib() < 20

    def test_unpacked_wheels_can_be_imported(self, tmp_path: Path) -> None:
        import zipfile

        with zipfile.ZipFile(tmp_path / "carried-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("carried_module.py", "VALUE = 42\n")
        code = (
            "import sys; from pathlib import Path; from tests.gpu_check.paths import prepare_paths; "
            "prepare_paths(Path(sys.argv[1]) / 'x', Path(sys.argv[1])); "
            "import carried_module, subprocess; assert carried_module.VALUE == 42; "
            "subprocess.run([sys.executable, '-c', 'import carried_module, tenclip_training'], check=True, cwd='/')"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, check=True, timeout=600)
