"""The model of a batch: a bundle on disk, the form of it that runs here, and the clips that are cut for it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_batch.options import ClipChoices, RuntimeOptions
from tenclip_features.weights import weights_hash
from tenclip_serving.models.directory import find_bundles
from tenclip_serving.models.repository import ServedModel, load_model, version_key
from tenclip_video.bundle import BundleInfo, read_bundle, sha256
from tenclip_video.spec import ClipSpec

# Packages whose versions the numbers may depend on.
_PACKAGES = ("tenclip", "av", "numpy", "opencv-python-headless")
_RUNTIME_PACKAGES = {"openvino": "openvino", "tensorrt": "tensorrt", "torch": "torch"}


def find_bundle(folder: Path) -> Path:
    """The bundle in `folder`, or the only model below it in its highest version. Raises BundleError."""
    if (folder / "bundle.json").is_file():
        return folder
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; --bundle is a bundle, as `tenclip export` writes it")
    for root in (folder, folder.parent):
        try:
            paths = find_bundles(root).bundles.values()
        except OSError as err:
            raise BundleError(f"{root}: cannot be read: {err.strerror or err}") from err
        found = [b for b in paths if b.is_relative_to(folder) and (b / "bundle.json").is_file()]
        names = sorted({b.parent.name for b in found})
        if len(names) == 1:
            return max(found, key=lambda b: version_key(b.name))
        if names:
            raise BundleError(f"{folder}: holds the models {', '.join(names)}; name one of them: {folder / names[0]}")
    raise BundleError(f"{folder}: holds no bundle.json; --bundle is a bundle, as `tenclip export` writes it")


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchBundle:
    """A bundle that was read and not loaded. spec: its clips, with the changes that were asked for."""

    path: Path
    info: BundleInfo
    labels: tuple[str, ...]
    spec: ClipSpec

    @property
    def changed(self) -> bool:
        """Whether clips are cut otherwise than the bundle says."""
        return self.spec != self.info.clip_spec

    def load(self, runtime: RuntimeOptions) -> ServedModel:
        """The model, proven on its golden clips, warm, and with the clips that were asked for."""
        model = load_model(
            self.path,
            (self.info.name, self.info.version),
            runtime=runtime.runtime,
            variant=runtime.variant,
            threads=runtime.threads,
            instances={"": runtime.instances},
        )
        if not self.changed:
            return model
        info = dataclasses.replace(model.bundle.info, clip_spec=self.spec)
        return dataclasses.replace(model, bundle=dataclasses.replace(model.bundle, info=info))

    def metadata(self, model_runtime: str, variant: str) -> dict[str, str]:
        """What the files say of how they were made, beyond the settings: `tenclip.NAME`."""
        versions = {name: _version(name) for name in (*_PACKAGES, _RUNTIME_PACKAGES.get(model_runtime, "onnxruntime"))}
        return {
            "tenclip.bundle_sha256": sha256(self.path / "bundle.json"),
            "tenclip.clip_spec": json.dumps(self.spec.to_dict(), sort_keys=True),
            "tenclip.versions": json.dumps({name: v for name, v in versions.items() if v}, sort_keys=True),
        }


def open_bundle(folder: Path, choices: ClipChoices) -> BatchBundle:
    """Read the bundle, and work out the clips. Raises BundleError, InvalidRequest."""
    path = find_bundle(folder)
    bundle = read_bundle(path)
    spec = changed_spec(bundle.info.clip_spec, window=choices.window, fps=choices.fps)
    return BatchBundle(path=path.absolute(), info=bundle.info, labels=bundle.labels, spec=spec)


def changed_spec(spec: ClipSpec, *, window: int | None, fps: float | None) -> ClipSpec:
    """`spec` for clips that span `window` frames of a timeline of `fps` frames a second.

    A network takes a number of frames; a longer window shows it as many of them, evenly spaced.

    >>> changed_spec(ClipSpec(num_frames=16), window=64, fps=25).frame_stride
    4

    Raises InvalidRequest for a window that is no multiple of the network's frames, and for a rate that is none.
    """
    stride = spec.frame_stride
    if window is not None:
        stride, rest = divmod(window, spec.num_frames)
        if rest or stride < 1:
            n = spec.num_frames
            raise InvalidRequest(
                f"--window {window}: this model takes {n} frames a clip, so a window is a multiple of that: {n}, "
                f"{2 * n}, {4 * n}, ...; `tenclip export --frames` makes a bundle of another number"
            )
    if fps is not None and not (fps > 0 and math.isfinite(fps)):
        raise InvalidRequest(f"--fps {fps:g}: frames a second are a positive number, such as 25 or 29.97")
    return dataclasses.replace(spec, frame_stride=stride, target_fps=spec.target_fps if fps is None else fps)


def weights_of(info: BundleInfo) -> str:
    """The hash that tells two exports of one name and version apart, as `tenclip features` keeps it."""
    described: dict[str, Any] = info.to_dict()
    return weights_hash(described)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
