from __future__ import annotations

import numpy as np
import pytest

from tenclip_api.errors import ParityError
from tenclip_export.golden import golden_clips
from tenclip_export.parity import (
    FLOOR,
    NOISE_MULTIPLE,
    Outputs,
    Reference,
    Row,
    compare,
    make_reference,
    run_batched,
    summarise,
    tolerance_for,
    torch_run,
)
from tenclip_training.models import VideoModel
from tenclip_video.bundle import Tolerance
from tenclip_video.parity import Floats
from tenclip_video.spec import ClipSpec


def reference(logits_noise: float = 0.0, features_noise: float = 0.0) -> Reference:
    rng = np.random.default_rng(0)
    outputs = Outputs(rng.normal(size=(5, 4, 2)).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32))
    return Reference(
        32, np.arange(5 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 2, 4, 4, 3), outputs, logits_noise, features_noise
    )


def row(**changes: object) -> Row:
    values: dict[str, object] = {
        "variant": "fp32", "runtime": "a", "crop": 32, "max_abs": 1.0, "relative_l2": 0.1, "features_relative_l2": 0.2,
        "top1_agreement": 1.0, "num_clips": 3, "passed": True,
    }  # fmt: skip
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_batches_cover_every_clip_in_order() -> None:
    sizes = []

    def run(clips: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[Floats, Floats]:
        sizes.append(len(clips))
        first = clips[:, 0, 0, 0, :1].astype(np.float32)
        return first[:, :, None], first

    clips = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1, 1).repeat(3, axis=4)
    outputs = run_batched(run, clips, batch=2)
    assert sizes == [2, 2, 1]
    assert outputs.features[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_tolerance_is_a_multiple_of_the_worst_noise_and_never_below_the_floor() -> None:
    quiet, loud = reference(1e-9, 1e-9), reference(1e-4, 2e-5)
    assert tolerance_for([quiet]) == Tolerance(logits=FLOOR, features=FLOOR)
    assert tolerance_for([quiet, loud]) == Tolerance(logits=NOISE_MULTIPLE * 1e-4, features=NOISE_MULTIPLE * 2e-5)


@pytest.mark.parametrize(
    ("logits_error", "features_error", "passed"),
    [(0, 0, True), (0.02, 0, False), (0, 0.02, False), (0.005, 0.005, True)],
)
def test_both_outputs_must_be_within_tolerance(logits_error: float, features_error: float, passed: bool) -> None:
    golden = reference()
    position = iter(range(0, 5, 4))

    def run(clips: Floats | np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[Floats, Floats]:
        part = slice(start := next(position), start + len(clips))
        return golden.outputs.logits[part] * (1 + logits_error), golden.outputs.features[part] * (1 + features_error)

    result = compare(golden, run, Tolerance(logits=0.01, features=0.01), variant="fp32", runtime="a")
    assert result.passed is passed
    assert result.relative_l2 == pytest.approx(logits_error, abs=1e-6)
    assert result.features_relative_l2 == pytest.approx(features_error, abs=1e-6)
    assert result.num_clips == 5
    assert result.top1_agreement == 1


def test_nan_and_wrong_shapes_fail() -> None:
    golden = reference()
    for logits in (np.full((5, 4, 2), np.nan), np.zeros((5, 4, 1))):
        batches = iter([slice(0, 4), slice(4, 5)])

        def run(_: object, logits: Floats = logits, batches: object = batches) -> tuple[Floats, Floats]:
            part = next(batches)  # type: ignore[call-overload]
            return logits[part], golden.outputs.features[part]

        assert not compare(golden, run, Tolerance(logits=1e9, features=1e9), variant="fp32", runtime="a").passed


def test_noise_of_a_real_model(model: VideoModel, spec: ClipSpec) -> None:
    golden = make_reference(model, spec, golden_clips(spec.num_frames, spec.crop))
    assert 0 < golden.logits_noise < 1e-5
    assert 0 < golden.features_noise < 1e-5
    assert golden.outputs.logits.dtype == np.float32
    assert next(model.parameters()).dtype.itemsize == 4, "the model itself stays in float32"


def test_a_wrong_eps_is_far_beyond_the_tolerance(model: VideoModel, spec: ClipSpec) -> None:
    import copy

    from torch import nn

    golden = make_reference(model, spec, golden_clips(spec.num_frames, spec.crop))
    wrong = copy.deepcopy(model)
    for part in wrong.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.eps = 1e-5 if part.eps != 1e-5 else 1e-3
    tolerance = tolerance_for([golden])
    assert compare(golden, torch_run(model, spec), tolerance, variant="fp32", runtime="torch").relative_l2 == 0
    assert not compare(golden, torch_run(wrong, spec), tolerance, variant="fp32", runtime="torch").passed


def test_swapped_colours_are_far_beyond_the_tolerance(model: VideoModel, spec: ClipSpec) -> None:
    golden = make_reference(model, spec, golden_clips(spec.num_frames, spec.crop))
    run = torch_run(model, spec)
    result = compare(golden, lambda c: run(c[..., ::-1]), tolerance_for([golden]), variant="fp32", runtime="torch")
    assert result.relative_l2 > 0.01
    assert not result.passed


def test_a_network_that_overflows_is_refused_and_not_compared(model: VideoModel, spec: ClipSpec) -> None:
    import copy

    broken = copy.deepcopy(model)
    assert broken.fc is not None
    broken.fc.weight.data[0, 0] = float("inf")
    with pytest.raises(ParityError, match="the network gives NaN or infinity in its logits for clips of"):
        make_reference(broken, spec, golden_clips(spec.num_frames, spec.crop))


def test_summary_is_the_worst_of_the_crops() -> None:
    rows = [
        row(crop=32, top1_agreement=1.0),
        row(crop=40, relative_l2=0.3, num_clips=1, top1_agreement=0.0, passed=False),
        row(runtime="b"),
    ]
    first, second = summarise(rows)
    assert (first.runtime, first.relative_l2, first.num_clips, first.top1_agreement, first.passed) == (
        "a", 0.3, 4, 0.75, False,
    )  # fmt: skip
    assert (second.runtime, second.num_clips, second.passed) == ("b", 3, True)
