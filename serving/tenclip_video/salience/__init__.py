"""Salience: scoring the windows of a video, so that the network sees only the best clips.

The IG-65M paper takes the ten clips that SCSampler (Korbar et al., 2019) ranks highest instead of ten uniform ones.
Learned samplers are small networks, trained by `tenclip train-sampler` and read from `salience.onnx` of a bundle;
`MotionEnergyScorer` learns nothing and is what a video is scored by where there is no sampler.
"""

from tenclip_video.salience.motion_energy import MotionEnergyScorer
from tenclip_video.salience.sampler_spec import SamplerKind, SamplerSpec
from tenclip_video.salience.scores import ClipScorer, SalienceTimeline, WindowScores, select_salient
from tenclip_video.salience.stopping import StoppingRule, calibrate_stopping

__all__ = [
    "ClipScorer",
    "MotionEnergyScorer",
    "SalienceTimeline",
    "SamplerKind",
    "SamplerSpec",
    "StoppingRule",
    "WindowScores",
    "calibrate_stopping",
    "select_salient",
]
