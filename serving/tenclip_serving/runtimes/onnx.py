"""ONNX Runtime on the CPU: the portable one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips

OUTPUTS = ["logits", "features"]


class OnnxRuntime:
    """An ONNX Runtime session over `model.onnx`.

    threads: of one operator; 0 lets ONNX Runtime choose (one for each physical core). `spin`: its threads wait busily
    for the next operator. That is a little faster alone on a machine, and burns the cores that decoding needs; so it
    is off.
    Raises BundleError for a graph that does not load or has other inputs and outputs than a bundle's.
    """

    name = "onnxruntime"
    batch_size = 1

    def __init__(self, path: Path, *, threads: int = 0, spin: bool = False) -> None:
        try:
            import onnxruntime as ort
        except ModuleNotFoundError as err:
            raise MissingDependency("ONNX Runtime is not installed: pip install 'tenclip[serve]'") from err
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; its warnings are about graph rewrites that nobody can act on
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as err:  # its exceptions share no base class but Exception
            raise BundleError(f"{path}: ONNX Runtime cannot load it: {_first_line(err)}") from err
        inputs = [i.name for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != ["clips"] or not set(OUTPUTS) <= set(outputs):
            raise BundleError(f"{path}: inputs {inputs} and outputs {outputs}; a bundle has ['clips'] and {OUTPUTS}")

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        logits, features = self._session.run(OUTPUTS, {"clips": np.ascontiguousarray(clips)})
        return Outputs(logits, features)


def _first_line(err: Exception) -> str:
    return str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
