"""Action videos made on the spot: real files whose classes only motion tells apart.

Reading order: motions (what the classes are, and why one frame says nothing), config, plan, scene, renderer, encode,
generator; tags for noisy labels, command for the command line.

>>> from tenclip_training.synth import SynthConfig, generate
>>> generate(SynthConfig(videos_per_class=80, seed=0), "videos")  # doctest: +SKIP
PosixPath('videos/manifest.csv')
"""

from tenclip_training.synth.config import NoisyTags, SynthConfig
from tenclip_training.synth.generator import generate
from tenclip_training.synth.motions import CLASSES, MOTIONS
from tenclip_training.synth.plan import VideoSpec, plan_videos
from tenclip_training.synth.renderer import render
from tenclip_training.synth.tags import tag_classes

__all__ = [
    "SynthConfig",
    "NoisyTags",
    "CLASSES",
    "MOTIONS",
    "generate",
    "VideoSpec",
    "plan_videos",
    "render",
    "tag_classes",
]
