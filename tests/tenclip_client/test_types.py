"""Results are frozen, and numbers come out of them without numpy and with it."""

from __future__ import annotations

import dataclasses
from array import array

import numpy as np
import pytest

import tenclip_client
from tenclip_client import USE_CLIENT_DEFAULT, ClassScore, ClipFeatures, ClipInfo, Features, ServerPath


def clip(index: int) -> ClipInfo:
    return ClipInfo(index=index, start_seconds=0, end_seconds=1, frame_indices=(0, 1), looped=False)


def features() -> Features:
    rows = ((1.5, 2.5), (3.5, 4.5), (5.5, 6.5))
    clips = tuple(ClipFeatures(clip=clip(i), values=array("f", row)) for i, row in enumerate(rows))
    return Features(clips=clips, mean=array("f", (3.5, 4.5)))


def test_features_as_numpy() -> None:
    stacked = features().numpy()
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked, [[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]])
    stacked[0, 0] = 9  # a copy of its own
    mean = features().mean
    view = np.asarray(mean)
    assert view.dtype == np.float32
    assert np.shares_memory(view, mean)


def test_no_clips_as_numpy() -> None:
    assert Features(clips=(), mean=array("f", (1, 2))).numpy().shape == (0, 2)


def test_frozen() -> None:
    score = ClassScore(index=1, label="a", score=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        score.score = 1.0  # type: ignore[misc]
    assert score == ClassScore(index=1, label="a", score=0.5)
    assert hash(ServerPath("a")) == hash(ServerPath("a"))


def test_repr_stays_short() -> None:
    long = Features(clips=(), mean=array("f", [0.0] * 512))
    assert len(repr(long)) < 80
    assert repr(USE_CLIENT_DEFAULT) == "USE_CLIENT_DEFAULT"
    assert str(ServerPath("a/b")) == "a/b"


def test_everything_exported_is_there() -> None:
    assert len(set(tenclip_client.__all__)) == len(tenclip_client.__all__)
    assert all(hasattr(tenclip_client, name) for name in tenclip_client.__all__)


def test_every_error_a_server_may_send_is_exported() -> None:
    local_only = {"DatasetError", "CheckpointError", "MissingDependency", "TrainingDiverged"}
    names = {cls.__name__ for cls in tenclip_client.TenclipError.__subclasses__()}
    assert names - local_only <= set(tenclip_client.__all__)
