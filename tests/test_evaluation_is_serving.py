"""Every named protocol gives the same scores in an evaluation as from the server's engine, on the same network."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_data.manifest import Manifest, Sample
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.requests import Recognition, RecognitionRequest
from tenclip_serving.runtimes import Clips, Outputs
from tenclip_training.evaluation.evaluate import CLIPS_AT_ONCE, EvaluationResult, VideoScore, clip_outputs, evaluate
from tenclip_training.models import VideoModel, create_model
from tenclip_video.bundle import read_bundle
from tenclip_video.protocols import PROTOCOLS
from tests.tenclip_serving.helpers import LABELS, SPEC, make_bundle
from tests.videos import Recipe, make_video


class NetworkRuntime:
    """The network as evaluation runs it, with its batches, as a runtime of the server."""

    name = "network"
    batch_size = CLIPS_AT_ONCE

    def __init__(self, model: VideoModel) -> None:
        self._model = model

    def run(self, clips: Clips) -> Outputs:
        (outputs,) = clip_outputs(self._model, clips.copy(), SPEC, "cpu")
        return outputs


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames twice as wide as high, and different from left to right: squashing and each crop give other pixels."""
    path = tmp_path_factory.mktemp("videos") / "numbers.mp4"
    path.write_bytes(make_video(Recipe(num_frames=70, width=128, height=64)))
    return path


@pytest.fixture(scope="module")
def model() -> VideoModel:
    """A network with large logits, whose softmax is far from even, so that it matters what is averaged."""
    torch.manual_seed(0)
    model = create_model(
        "r2plus1d_10", num_classes=len(LABELS), width=4, num_frames=SPEC.num_frames, crop=SPEC.crop
    ).eval()
    with torch.no_grad():
        for parameter in model.fc.parameters():
            parameter.mul_(500)
    return model


def evaluated(model: VideoModel, video: Path, protocol: str) -> VideoScore:
    sample = Sample(path=video, name=video.name, labels=(LABELS[0],), split="test")
    manifest = Manifest(source=video.parent, samples=(sample,), labels=LABELS)
    result: EvaluationResult = evaluate(model, manifest, split="test", clip_spec=SPEC, protocol=protocol)
    assert result.protocol == protocol
    return result.scores[0]


async def served(model: VideoModel, video: Path, protocol: str, directory: Path) -> Recognition:
    bundle = read_bundle(make_bundle(directory))
    loaded = ServedModel(bundle=bundle, runtime=NetworkRuntime(model), runtime_reason="tests")
    config = ServerConfig(directory=directory, decode_workers=1, allow_roots=(video.parent,))
    engine = Engine(config, Repository({"tiny": {"1": loaded}}))
    await engine.start()
    try:
        return await engine.recognize(RecognitionRequest(path=str(video), protocol=protocol))
    finally:
        await engine.close()


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_scores_of_an_evaluation_are_those_of_the_server(
    name: str, model: VideoModel, video: Path, tmp_path: Path
) -> None:
    score, answer = evaluated(model, video, name), asyncio.run(served(model, video, name, tmp_path))
    assert answer.protocol == name
    assert score.seconds == tuple((clip.start_seconds, clip.end_seconds) for clip in answer.clips)
    np.testing.assert_array_equal(score.clips, answer.clip_probabilities)
    np.testing.assert_array_equal(score.video, answer.probabilities)


def test_this_video_tells_protocols_apart(model: VideoModel, video: Path) -> None:
    """Else the test above could not fail."""
    squashed, kept = (evaluated(model, video, f"fully-convolutional{se}") for se in ("", "-se"))
    assert np.abs(squashed.clips - kept.clips).max() > 0.01
    three = PROTOCOLS["tsn-25"]
    averaged = dataclasses.replace(three, averaging="probabilities")
    sample = Sample(path=video, name=video.name, labels=(LABELS[0],), split="test")
    manifest = Manifest(source=video.parent, samples=(sample,), labels=LABELS)
    logits, softmaxes = (
        evaluate(model, manifest, split="test", clip_spec=SPEC, protocol=p).scores[0] for p in (three, averaged)
    )
    assert np.abs(logits.clips - softmaxes.clips).max() > 0.01
