"""Salience: scoring the windows of a video, so that the network sees only the best clips.

The IG-65M paper takes the ten clips that SCSampler (Korbar et al., 2019) ranks highest instead of ten uniform ones.
Learned samplers are small networks, trained by `tenclip train-sampler` and read from `salience.onnx` of a bundle;
`MotionEnergyScorer` learns nothing and is what a video is scored by where there is no sampler.
"""

from tenclip_video.salience.inputs import default_spec, iter_windows, read_windows
from tenclip_video.salience.learned import (
    LearnedScorer,
    Sampler,
    SamplerFiles,
    check_clips,
    load_sampler,
    read_sampler_files,
    scorer_by_name,
)
from tenclip_video.salience.motion_energy import MotionEnergyScorer
from tenclip_video.salience.sampler_spec import SamplerKind, SamplerSpec
from tenclip_video.salience.scores import ClipScorer, SalienceTimeline, WindowScores
from tenclip_video.salience.stopping import DEFAULT_ERROR_BOUND, ERROR_BOUNDS, StoppingRule, calibrate_stopping
from tenclip_video.salience.windows import WindowInputs

__all__ = [
    "DEFAULT_ERROR_BOUND",
    "ERROR_BOUNDS",
    "ClipScorer",
    "LearnedScorer",
    "MotionEnergyScorer",
    "SalienceTimeline",
    "Sampler",
    "SamplerFiles",
    "SamplerKind",
    "SamplerSpec",
    "StoppingRule",
    "WindowInputs",
    "WindowScores",
    "calibrate_stopping",
    "check_clips",
    "default_spec",
    "iter_windows",
    "load_sampler",
    "read_sampler_files",
    "read_windows",
    "scorer_by_name",
]
