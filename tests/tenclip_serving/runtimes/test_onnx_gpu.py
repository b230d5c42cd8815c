"""What ONNX Runtime's providers for GPUs are told, against the strings of the installed libraries: they parse options
only on a machine with a GPU. And what is said where they cannot start."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tenclip_api.errors import MissingDependency
from tenclip_serving.runtimes import create_runtime, cuda
from tenclip_serving.runtimes.onnx import PROVIDERS, providers
from tests.conftest import PROJECT
from tests.tenclip_serving.helpers import make_bundle

GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt")
# What the binding's messages call a value, and how one looks.
KINDS = {
    "'True' or 'False'": r"True|true|False|false",
    "a positive integer number": r"[1-9][0-9]*",
    "a number": r"[0-9]+",
}
# The CUDA provider says nothing about values: its common parser reads truth values and numbers, and names otherwise.
CUDA_KINDS = {"use_tf32": r"0|1|True|true|False|false", "gpu_mem_limit": r"[0-9]+"}


@cache
def content(pattern: str) -> bytes:
    """A library of the installed ONNX Runtime; skips where that is not the one for GPUs."""
    import onnxruntime

    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} here: this ONNX Runtime is not the one for GPUs")
    return found[0].read_bytes()


def options(provider: str) -> dict[str, str]:
    """All that are ever given to it, with and without a ceiling to the memory."""
    found: dict[str, str] = {}
    for name in GPU:
        for memory in (0, 512):
            found |= dict(providers(name, memory)).get(provider, {})
    return found


def test_tensorrt_takes_every_option_and_its_value() -> None:
    library, binding = content("libonnxruntime_providers_tensorrt.so"), content("onnxruntime_pybind11_state*.so")
    given = options("TensorrtExecutionProvider")
    assert set(given) >= {"trt_timing_cache_enable", "trt_max_workspace_size"}
    for key, value in given.items():
        assert key.encode() in library
        wanted = re.search(rb"The value for the key '" + key.encode() + rb"' should be ([^\0]+)", binding)
        assert wanted, f"the binding reads no {key}"
        kind = next(kind for kind in KINDS if wanted[1].decode().startswith(kind))
        assert re.fullmatch(KINDS[kind], value), f"{key}: {value!r}, and the binding wants {wanted[1].decode()}"


def test_cuda_takes_every_option_and_its_value() -> None:
    library = content("libonnxruntime_providers_cuda.so")
    given = options("CUDAExecutionProvider")
    assert set(given) >= {"use_tf32", "arena_extend_strategy", "gpu_mem_limit"}
    for key, value in given.items():
        assert b"\0" + key.encode() + b"\0" in library
        if key in CUDA_KINDS:
            assert re.fullmatch(CUDA_KINDS[key], value), f"{key}: {value!r}"
        else:
            assert b"\0" + value.encode() + b"\0" in library, f"{key} has no value {value!r}"


@pytest.mark.skipif(cuda.gpu_name() is not None, reason="this machine has a GPU, with its libraries")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("onnxruntime-cuda", "it left CUDAExecutionProvider out and would run on CPU.*; it needs CUDA and cuDNN in"),
        ("onnxruntime-tensorrt", ".*Please install TensorRT libraries .* it needs CUDA, cuDNN and TensorRT in"),
    ],
)
def test_a_provider_that_does_not_start_says_why(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would go on with the other providers, and print that."""
    content("libonnxruntime_providers_cuda.so")
    monkeypatch.setattr(cuda, "gpu_name", lambda: "NVIDIA Imagined")
    provider = PROVIDERS[name][0][0]
    with pytest.raises(MissingDependency, match=f"{name}: ONNX Runtime could not start {provider}: {reason}"):
        create_runtime(name, make_bundle(tmp_path) / "model.onnx")
    assert "Falling back" not in capsys.readouterr().out


def test_no_session_ever_changes_its_providers(tmp_path: Path) -> None:
    """By default a call that fails in a provider runs again on the CPU, and so does every one after it."""
    runtime = create_runtime("onnxruntime", make_bundle(tmp_path) / "model.onnx")
    assert runtime._session._enable_fallback is False  # type: ignore[attr-defined]


def pins() -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE))


def wanted(name: str) -> Requirement:
    """What the extra gpu asks for."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (found,) = [r for r in map(Requirement, extras["gpu"]) if r.name == name]
    return found


def test_the_gpu_extra_brings_cuda_and_cudnn() -> None:
    """ONNX Runtime's wheel links them and has them in extras; without them it would run on the CPU."""
    library = content("libonnxruntime_providers_cuda.so")
    assert {b"libcublas.so.13", b"libcudart.so.13", b"libcurand.so.10"} <= set(re.findall(rb"lib\w+\.so\.\d+", library))
    extras = wanted("onnxruntime-gpu").extras
    assert extras == {"cuda", "cudnn"} <= set(metadata("onnxruntime-gpu").get_all("Provides-Extra") or [])
    brought = [r for text in requires("onnxruntime-gpu") or [] if (r := Requirement(text)).marker and named(r, extras)]
    assert len(brought) >= 5
    for requirement in brought:
        assert requirement.specifier.contains(pins()[requirement.name]), requirement


def named(requirement: Requirement, extras: set[str]) -> bool:
    return any(requirement.marker and requirement.marker.evaluate({"extra": extra}) for extra in extras)


def test_tensorrt_is_the_one_that_the_provider_links() -> None:
    """Another major version has libraries of other names. All four packages are pinned: engines want that version."""
    (linked,) = set(re.findall(rb"\0libnvinfer\.so\.(\d+)\0", content("libonnxruntime_providers_tensorrt.so")))
    found = {name: version for name, version in pins().items() if name.startswith("tensorrt")}
    assert len(found) == 4
    assert len(set(found.values())) == 1
    assert found["tensorrt"].split(".")[0] == linked.decode()
    assert wanted("tensorrt").specifier.contains(found["tensorrt"])
    assert not wanted("tensorrt").specifier.contains(f"{int(linked) + 1}.0")
