"""A bundle as a network of frames: what `tenclip omni` compares files with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import BundleError
from tenclip_training.omni.networks import open_network
from tenclip_video.bundle import Bundle


def test_a_bundle_sees_the_frame_in_every_place(bundle: Bundle) -> None:
    network = open_network(str(bundle.path), threads=1)
    frames = bundle.golden.clips[:2, 0]
    still = np.repeat(frames[:, None], bundle.info.clip_spec.num_frames, axis=1)
    expected = network.runtime.run(np.ascontiguousarray(still)).features
    np.testing.assert_array_equal(network.features(frames), expected)
    assert network.identity.startswith(bundle.info.architecture)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        open_network(str(tmp_path))
