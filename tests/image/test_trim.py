"""What is taken out of an image's environment, and that each package's RECORD says so."""

from __future__ import annotations

from pathlib import Path

from tenclip_image.trim import size, trim

KEPT = (
    "numpy/__init__.py",
    "numpy/testing/__init__.py",
    "numpy/core.so",
    "openvino/libs/libopenvino_intel_cpu_plugin.so",
    "openvino/libs/libopenvino_onnx_frontend.so.2641",
    "openvino/frontend/onnx/__init__.py",
    "onnxruntime/capi/onnxruntime_pybind11_state.so",
    "pyarrow/libarrow.so.2600",
)
REMOVED = (
    "numpy/__init__.pyi",
    "numpy/_core/include/numpy/arrayobject.h",
    "numpy/tests/test_lazy.py",
    "openvino/libs/libopenvino_intel_gpu_plugin.so",
    "openvino/libs/libopenvino_intel_npu_plugin.so",
    "openvino/libs/libopenvino_tensorflow_lite_frontend.so.2641",
    "openvino/frontend/pytorch/decoder.py",
    "onnxruntime/capi/libonnxruntime.so.1.31.1",
    "pyarrow/libarrow_flight.so.2600",
)


def test_only_what_nothing_reads_goes_and_the_record_agrees(tmp_path: Path) -> None:
    for name in (*KEPT, *REMOVED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 100)
    record = tmp_path / "numpy-1.dist-info" / "RECORD"
    record.parent.mkdir()
    lines = [f"{name},sha256=abc,100" for name in (*KEPT, *REMOVED)] + ["numpy-1.dist-info/RECORD,,"]
    record.write_text("\n".join(lines) + "\n")
    before = size(tmp_path)
    assert trim(tmp_path) == before - size(tmp_path) > 100 * len(REMOVED)
    assert [name for name in REMOVED if (tmp_path / name).exists()] == []
    assert [name for name in KEPT if not (tmp_path / name).exists()] == []
    listed = [line.partition(",")[0] for line in record.read_text().splitlines()]
    assert listed == [*KEPT, "numpy-1.dist-info/RECORD"]
    assert trim(tmp_path) == 0
