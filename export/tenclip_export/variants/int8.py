"""OpenVINO int8 by post-training quantisation (NNCF) on calibration clips, kept only where it still answers alike.

What decides are clips of footage that were not calibrated on: `BOUND` is how often the best class must be the float32
one, and how far logits may move. The golden clips come after that: on them a server finds out whether its machine
computes what this one did.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, MissingDependency
from tenclip_export.parity import Run, run_batched
from tenclip_video.openvino_core import shared_core
from tenclip_video.parity import distance, top1_agreement

Clips = NDArray[np.uint8]  # [N,T,H,W,3]


@dataclass(frozen=True, kw_only=True)
class Bound:
    top1_agreement: float
    logits: float  # relative L2


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """int8 against float32 on footage that it was not calibrated on.

    relative_l2: of logits; of features where the model has no classifier, whose top1_agreement is 1.
    """

    top1_agreement: float
    relative_l2: float
    num_clips: int

    def within(self, bound: Bound) -> bool:
        return self.top1_agreement >= bound.top1_agreement and self.relative_l2 <= bound.logits


BOUND = Bound(top1_agreement=0.95, logits=0.1)
# Fewer would decide by chance. Two neighbours in `HELD_OUT_OF` are kept back: the two clips of one video, so that no
# held-out clip shows what another of the same video was calibrated on.
MIN_CLIPS, HELD_OUT_OF = 16, 8
# NNCF's statistics settle long before it; more clips only take time.
MAX_CALIBRATION_CLIPS = 300


def split_clips(clips: Clips) -> tuple[Clips, Clips]:
    """(to calibrate on, held out): a quarter is held out. Raises InvalidRequest for fewer than `MIN_CLIPS`."""
    if len(clips) < MIN_CLIPS:
        raise InvalidRequest(
            f"int8 needs at least {MIN_CLIPS} clips of real videos to calibrate on and to be judged by, got "
            f"{len(clips)}: give more with --calibration"
        )
    held_out = np.arange(len(clips)) % HELD_OUT_OF >= HELD_OUT_OF - 2
    return clips[~held_out][:MAX_CALIBRATION_CLIPS], clips[held_out]


def quantise(source: Path, target: Path, clips: Clips) -> tuple[Path, ...]:
    """Quantise the ONNX graph in `source` on calibration clips; writes `target` (.xml) and its weights (.bin).

    Weights are quantised by output channel, activations by tensor. Raises MissingDependency without NNCF.
    """
    try:
        with _quiet():
            import nncf  # noqa: F401
    except ModuleNotFoundError as err:
        raise MissingDependency(
            f"int8 needs {err.name}, which is not installed: pip install 'tenclip[export]'"
        ) from err
    # NNCF makes Cores of its own, each of which changes the signal stack of its thread (see `shared_core`).
    with _quiet(), ThreadPoolExecutor(1, thread_name_prefix="quantise") as thread:
        thread.submit(_quantise, source, target, clips).result()
    return target, target.with_suffix(".bin")


def _quantise(source: Path, target: Path, clips: Clips) -> None:
    import nncf
    import openvino as ov

    dataset = nncf.Dataset(list(clips), lambda clip: np.ascontiguousarray(clip)[np.newaxis])
    # The head is left alone: it is a thousandth of the work, and its outputs are the answer.
    quantised = nncf.quantize(
        shared_core().read_model(source),
        dataset,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(clips),
        ignored_scope=nncf.IgnoredScope(types=["MatMul"], validate=False),
    )
    ov.save_model(quantised, target, compress_to_fp16=False)


def compare_held_out(int8: Run, float32: Run, clips: Clips) -> HeldOut:
    """Both over the held-out clips."""
    actual, expected = run_batched(int8, clips), run_batched(float32, clips)
    distances = distance(actual, expected)
    return HeldOut(
        top1_agreement=top1_agreement(actual.logits, expected.logits),
        relative_l2=distances.logits if expected.logits.size else distances.features,
        num_clips=len(clips),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence NNCF: its bars on standard output, its log and its own deprecations do not concern a user.

    It would also report its use over the network, unless it is told that it runs in CI.
    """
    logger = logging.getLogger("nncf")
    disabled, logger.disabled = logger.disabled, True
    in_ci = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
        if in_ci is None:
            del os.environ["NNCF_CI"]
