"""Other servers that a bundle can be exported for, beside `tenclip serve`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import BundleError
from tenclip_export.torchserve.archive import export_torchserve
from tenclip_export.triton import export_triton
from tenclip_video.bundle import Bundle

TARGETS = ("bundle", "torchserve", "triton")


@dataclass(frozen=True, kw_only=True)
class Written:
    """The files written for a target, and the command that serves them."""

    target: str
    path: Path
    serve: str


def check_targets(targets: Sequence[str], *, version: str | None) -> None:
    """Before a long export: raises BundleError for a version that a target could not serve (None becomes an integer),
    ValueError for an unknown target.
    """
    if unknown := [target for target in targets if target not in TARGETS]:
        raise ValueError(f"target {unknown[0]!r} is not one of {', '.join(TARGETS)}")
    if "triton" in targets and version is not None and not re.fullmatch(r"[1-9]\d*", version):
        raise BundleError(
            f"version {version!r}: Triton serves positive integers only; leave --version out, or give one"
        )


def check_features_only(targets: Sequence[str]) -> None:
    """Before a long export of a backbone without a classifier: raises BundleError for a target that only predicts."""
    if "torchserve" in targets:
        raise BundleError(
            "the TorchServe handler answers predictions, which a model without a classifier has not; "
            "leave out --target torchserve, and serve the bundle with `tenclip serve` or Triton"
        )


def export_targets(
    bundle: Bundle,
    out_dir: Path,
    targets: Sequence[str],
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Written, ...]:
    """Write every target but the bundle, which is there already, into `out_dir`, each once.

    One folder holds them all: `out_dir/NAME/VERSION` is a bundle, and with its `config.pbtxt` a model of Triton's;
    archives for TorchServe lie beside NAME. Raises what `check_targets` does, and BundleError for what cannot be
    written; the bundle and the targets before it stay.
    """
    check_targets(targets, version=bundle.info.version)
    if bundle.info.features_only:
        check_features_only(targets)
    written = []
    for target in dict.fromkeys(targets):
        if target != "bundle":
            progress(f"writing for {target}")
        if target == "torchserve":
            path = export_torchserve(bundle, out_dir, overwrite=overwrite)
            command = f"torchserve --start --foreground --model-store {out_dir} --models {path.name}"
            written.append(Written(target=target, path=path, serve=command))
        elif target == "triton":
            home = export_triton(bundle, out_dir, overwrite=overwrite)
            command = f"tritonserver --model-repository {out_dir}"
            written.append(Written(target=target, path=home / "config.pbtxt", serve=command))
    return tuple(written)
