"""Clips of real videos to calibrate int8 on and to judge it by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, VideoError
from tenclip_data.scan import scan_folder
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec

_log = logging.getLogger(__name__)
# Of each video; and of all of them, evenly spread: as many as are calibrated on, and those that are held out.
CLIPS_PER_VIDEO, MAX_VIDEOS = 2, 200


def calibration_clips(sources: Sequence[Path], spec: ClipSpec) -> NDArray[np.uint8]:
    """Two clips of each video, uint8 [N,T,crop,crop,3]. `sources` are videos, or folders with videos at any depth.

    A video in a folder that cannot be used is passed over; one that is named is not, and its error is raised. A folder
    that cannot be listed is named in the log.
    Raises InvalidRequest where there is none.
    """
    named = [path for path in sources if not path.is_dir()]
    scans = [scan_folder(folder) for folder in sources if folder.is_dir()]
    problems = [str(problem) for scan in scans for problem in scan.problems]
    for problem in problems:
        _log.warning("%s", problem)
    found = sorted(path for scan in scans for path in scan.videos if path.is_file())
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(MAX_VIDEOS, len(found))).round().astype(int)]
    protocol = Protocol(selection=ClipSelection(num_clips=CLIPS_PER_VIDEO))
    clips = [read_clips(path, spec, protocol).clips for path in named]
    for path in chosen:
        try:
            clips.append(read_clips(path, spec, protocol).clips)
        except VideoError:
            continue
    if not clips:
        why = [f"no video that can be used in {', '.join(map(str, sources))}; calibration needs some", *problems]
        raise InvalidRequest("; ".join(why))
    # Both clips of a video lie side by side, which `int8.split_clips` relies on.
    return np.concatenate(clips)
