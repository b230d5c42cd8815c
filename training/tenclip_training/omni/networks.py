"""Networks that look at single frames, on the runtimes of the server: OpenVINO or ONNX Runtime, faster than
torch on a CPU (`make bench ARGS=frames` says by how much).

A network is named by a bundle's folder, a checkpoint (ours or a public one), or `efficientnet-lite0`: ImageNet weights
that come as a package. A checkpoint is traced and handed to OpenVINO in a temporary file; that takes seconds, where an
export to ONNX takes half a minute. A network of clips sees the frame in all T places.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, ModelError
from tenclip_video.spec import ClipSpec

if TYPE_CHECKING:
    from tenclip_serving.runtimes import Runtime
    from tenclip_training.loaders.any import Loaded
    from tenclip_training.models import VideoModel
    from tenclip_video.aggregate import Outputs
    from tenclip_video.bundle import Bundle

EFFICIENTNET_LITE0 = "efficientnet-lite0"
_BATCH = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameNetwork:
    """name: as it was asked for. identity: tells whether features of two runs are of the same network.
    spec: its input; `crop` is the side of its frames.
    """

    name: str
    identity: str
    spec: ClipSpec
    runtime: Runtime

    def run(self, frames: NDArray[np.uint8]) -> list[Outputs]:
        """Logits and features of frames uint8 RGB [N,crop,crop,3], in batches. Raises ValueError for other sizes."""
        side = self.spec.crop
        if frames.shape[1:] != (side, side, 3) or frames.dtype != np.uint8:
            raise ValueError(f"{self.name} takes uint8 frames of {side}x{side}, got {frames.dtype} {frames.shape}")
        if self.spec.color_order == "bgr":
            frames = frames[..., ::-1]
        outputs = []
        for i in range(0, len(frames), _BATCH):
            clips = np.repeat(frames[i : i + _BATCH, None], self.spec.num_frames, axis=1)
            outputs.append(self.runtime.run(np.ascontiguousarray(clips)))
        return outputs

    def features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [N,D]. Raises ModelError where the network gives what is no number."""
        if not len(frames):
            return np.zeros((0, 0), np.float32)
        found = np.concatenate([o.features for o in self.run(frames)])
        if not np.isfinite(found).all():
            raise ModelError(f"{self.name}: gives features that are not finite numbers; another network is needed")
        return found


def open_network(name: str, *, threads: int = 0) -> FrameNetwork:
    """Load a network. threads: 0 lets the runtime choose.

    Raises InvalidRequest for a name that is none, CheckpointError, BundleError, MissingDependency.
    """
    from tenclip_training.loaders import load_any
    from tenclip_training.loaders.packages import efficientnet_lite0_path
    from tenclip_video.bundle import read_bundle

    path = efficientnet_lite0_path() if name == EFFICIENTNET_LITE0 else Path(name)
    if path.is_dir():
        return network_of_bundle(name, read_bundle(path), threads=threads)
    if path.is_file():
        return network_of_checkpoint(name, path, load_any(path), threads=threads)
    raise InvalidRequest(f"network {name!r} is neither {EFFICIENTNET_LITE0} nor a bundle's folder or a checkpoint")


def network_of_bundle(name: str, bundle: Bundle, *, threads: int = 0) -> FrameNetwork:
    """The float32 network of a bundle, on a runtime that is installed. Raises InvalidRequest where none runs it."""
    from tenclip_serving.runtimes import available_runtimes, create_runtime, reads

    runtimes = available_runtimes()
    for variant in bundle.info.variants:
        path = bundle.path / variant.path
        if variant.name != "fp32":
            continue
        for runtime in runtimes:
            if reads(runtime, variant.format, variant.path):
                return FrameNetwork(
                    name=name,
                    identity=f"{bundle.info.architecture} {variant.files[variant.path][:16]}",
                    spec=bundle.info.clip_spec,
                    runtime=create_runtime(runtime, path, threads=threads),
                )
    raise InvalidRequest(
        f"{bundle.path}: none of its fp32 variants runs here; there are: {', '.join(runtimes) or 'none'}"
    )


def network_of_checkpoint(name: str, path: Path, loaded: Loaded, *, threads: int = 0) -> FrameNetwork:
    """The network of a checkpoint that was read, compiled for OpenVINO.

    Raises InvalidRequest for a network of optical flow, MissingDependency without OpenVINO.
    """
    if loaded.clip_spec.modality != "rgb":
        raise InvalidRequest(f"{path}: a network of optical flow; name one that looks at pictures")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return FrameNetwork(
        name=name,
        identity=f"{loaded.model.architecture} {digest}",
        spec=loaded.clip_spec,
        runtime=compile_model(loaded.model, loaded.clip_spec, threads=threads),
    )


def compile_model(model: VideoModel, spec: ClipSpec, *, threads: int = 0) -> Runtime:
    """A model in memory on OpenVINO, uint8 clips in; the graph is the traced model's, normalisation included.

    Raises MissingDependency without OpenVINO.
    """
    from tenclip_serving.runtimes.openvino import OpenVinoRuntime
    from tenclip_video.openvino_core import shared_core

    shared_core()  # says what is missing
    import openvino as ov
    import torch

    from tenclip_training.preprocess import normalise

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits, features = self.model(normalise(clips, spec))
            return logits, features

    example = torch.zeros(1, spec.num_frames, spec.crop, spec.crop, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the tracer, about itself
        traced = torch.jit.trace(Served().eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    graph = ov.convert_model(
        traced, example_input=example, input=[("clips", [-1, spec.num_frames, spec.crop, spec.crop, 3])]
    )
    for output, label in zip(graph.outputs, ("logits", "features"), strict=True):
        output.get_tensor().set_names({label})
    with tempfile.TemporaryDirectory(prefix="tenclip-") as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(graph, path, compress_to_fp16=False)
        runtime = OpenVinoRuntime(path, threads=threads)
        runtime.run(example.numpy())  # compiled here: the file may be read until then
    return runtime
