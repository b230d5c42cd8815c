"""OpenVINO on the CPU: the fastest one there in most cases. It reads the same `model.onnx`, or its own `.xml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import BundleError
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips, without_logits
from tenclip_video.openvino_core import shared_core


class OpenVinoRuntime:
    """OpenVINO graphs compiled for one spatial shape each, when that shape is first seen.

    A static shape lets it choose its kernels and memory once: a bundle has two shapes at most (pooled and
    fully-convolutional), and each costs one compilation.
    Clips run one by one on all threads: neither batches nor one stream a thread bring more than 2% for R(2+1)D-18 on
    16x112x112 clips (`make bench ARGS=streams`). There is little left to gain in float32: the network runs at twice the
    machine's own matrix product (`make bench ARGS=runtimes`). Not tried: Winograd's algorithm, which would save
    multiplications in the spatial convolutions and cost memory traffic.
    threads: 0 lets OpenVINO choose.
    Raises BundleError for a graph that does not load.
    """

    name = "openvino"
    batch_size = 1

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self._path = path
        self._core = shared_core()
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            # A thread that is pinned to a core waits for that one, however busy, while another may be idle. Where other
            # processes have the cores, decode workers among them, loading a model could then stand still.
            "ENABLE_CPU_PINNING": "NO",
            # Its own default is bfloat16 on CPUs that have it (AVX512_BF16, AMX): other numbers than the reference's.
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
        }
        if threads:
            self._config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self._model = self._core.read_model(path)
            self._input = self._model.input("clips").get_any_name()
            self._model.output("features")
        except Exception as err:  # OpenVINO raises RuntimeError for everything
            raise BundleError(f"{path}: OpenVINO cannot load it: {_last_line(err)}") from err
        self._classifies = any("logits" in output.get_names() for output in self._model.outputs)
        import openvino as ov

        # A graph that says bfloat16 itself was checked as such.
        if any(op.get_output_element_type(0) == ov.Type.bf16 for op in self._model.get_ops() if op.get_output_size()):
            self._config["INFERENCE_PRECISION_HINT"] = "bf16"
        self._requests: dict[tuple[int, ...], Any] = {}  # by (T,H,W)

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        request = self._request_for(clips.shape[1:4])
        logits, features = [], []
        for clip in clips:
            # Copied: an input that is shared stays the request's until its next one, and with it all the clips of
            # its video, which nobody is charged for any more. The copy is 0.6 MB.
            request.infer({self._input: clip[np.newaxis]}, share_inputs=False)
            # The tensors belong to the request and are overwritten by its next inference.
            if self._classifies:
                logits.append(request.get_tensor("logits").data.copy())
            features.append(request.get_tensor("features").data.copy())
        if not self._classifies:
            return without_logits(np.concatenate(features))
        return Outputs(np.concatenate(logits), np.concatenate(features))

    def _request_for(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            model = self._model.clone()
            try:
                model.reshape({self._input: [1, *shape, 3]})
                self._requests[shape] = self._core.compile_model(model, "CPU", self._config).create_infer_request()
            except RuntimeError as err:
                raise BundleError(f"{self._path}: OpenVINO cannot compile it for {shape}: {_last_line(err)}") from err
        return self._requests[shape]


def _last_line(err: Exception) -> str:
    # The first lines of OpenVINO's messages are source locations of its own.
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[-1] if lines else type(err).__name__
