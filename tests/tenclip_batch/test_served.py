"""A batch gives what a real server with the same bundle gives, to the bit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tenclip_batch.options import ClipChoices, OutputOptions, RuntimeOptions
from tenclip_client import AsyncClient, Client
from tenclip_client._extract import extract_to_parquet
from tenclip_client._extraction import ClipChoice
from tenclip_client._inputs import expand_inputs
from tests.tenclip_serving.helpers import SPEC, make_bundle, running_server

from .helpers import rows, run


def extract(address: str, videos: Path, out: Path, **choice: Any) -> None:
    async def all_of_them() -> None:
        async with AsyncClient(address) as client:
            await extract_to_parquet(client, expand_inputs([str(videos)]), out, choice=ClipChoice(**choice))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_features_are_those_of_a_server_to_the_bit(
    models: Path, bundle: Path, shared_videos: Path, tmp_path: Path, runtime: Any
) -> None:
    options = RuntimeOptions(runtime=runtime, decode_workers=2)
    cases: list[tuple[ClipChoices, dict[str, Any]]] = [
        (ClipChoices(), {}),
        (ClipChoices(mode="windows", step=3), {"clips": "windows", "window_step": 3}),
        (ClipChoices(mode="salient", num_clips=3, start=0.3), {"clips": "salient", "num_clips": 3, "start": 0.3}),
        (ClipChoices(fully_convolutional=True), {"fully_convolutional": True}),
    ]
    with running_server(models, "--runtime", runtime) as server:
        for number, (choices, served) in enumerate(cases):
            whole = tmp_path / f"{number}.parquet"
            extract(server.address, shared_videos, whole, **served)
            report = run(bundle, tmp_path / f"{number}", shared_videos, choices=choices, runtime=options)
            ours, theirs = rows(tmp_path / f"{number}"), pq.read_table(whole).replace_schema_metadata(None)
            assert ours == theirs.sort_by([("video", "ascending"), ("clip_index", "ascending")])
            assert (report.done, report.failures) == (5, {"EMPTY_VIDEO": 1, "NOT_A_VIDEO": 1})
            metadata = [pq.read_schema(p).metadata for p in (whole, tmp_path / f"{number}/clips/part-00000.parquet")]
            for key in (b"tenclip.protocol", b"tenclip.weights", b"tenclip.model", b"tenclip.version"):
                assert metadata[0][key] == metadata[1][key]


def test_predictions_are_those_of_a_server_to_the_bit(
    models: Path, bundle: Path, shared_videos: Path, tmp_path: Path
) -> None:
    run(bundle, tmp_path / "out", shared_videos, output=OutputOptions(task="predict", top_k=3, per_clip=True))
    by_video = {row["video"]: row for row in rows(tmp_path / "out", "videos").to_pylist()}
    clips = rows(tmp_path / "out").to_pylist()
    with running_server(models) as server, Client(server.address) as client:
        assert client.get_model().variant == "fp32"
        for path in sorted(shared_videos.rglob("v*.mp4")):
            served = client.predict(path, top_k=3, clip_scores=True)
            row = by_video[str(path)]
            assert [(c.label, np.float32(c.score)) for c in served.top] == [
                (label, np.float32(score)) for label, score in zip(row["top_labels"], row["top_scores"], strict=True)
            ]
            own = [c for c in clips if c["video"] == str(path)]
            assert [[np.float32(t.score) for t in c.top] for c in served.clips] == [
                [np.float32(s) for s in c["top_scores"]] for c in own
            ]
            assert len(row["scores"]) == 4
            assert (row["state"], row["clips"], row["codec"]) == ("done", 10, "mpeg4")


def test_a_window_of_more_frames_is_that_of_a_bundle_with_such_clips(
    shared_videos: Path, bundle: Path, tmp_path: Path
) -> None:
    """--window 12 of a network of 4 frames shows it every third frame; --fps lays frames over the video by time."""
    strided = make_bundle(tmp_path / "models", spec=replace(SPEC, frame_stride=3, target_fps=10.0))
    choices = ClipChoices(mode="windows", step=4)
    run(strided, tmp_path / "strided", shared_videos, choices=choices)
    run(bundle, tmp_path / "window", shared_videos, choices=replace(choices, window=12, fps=10.0))
    assert rows(tmp_path / "window") == rows(tmp_path / "strided")
    assert rows(tmp_path / "window").num_rows > 10
