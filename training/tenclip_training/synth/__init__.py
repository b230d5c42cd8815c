"""Action videos made on the spot: real files whose classes only motion tells apart. Stills of their objects, too.

Reading order: motions (verbs, and why one frame says nothing of them), nouns (what a frame does say, and how far that
gives the verb away), config, content (what is shown and what is said about it), plan, scene, renderer, encode,
generator; untrimmed for videos of several scenes, sites for styles, noise and tags for noisy labels.

>>> from tenclip_training.synth import SynthConfig, generate
>>> generate(SynthConfig(videos_per_class=80, seed=0), "videos")  # doctest: +SKIP
PosixPath('videos/manifest.csv')
"""

from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.generator import generate
from tenclip_training.synth.motions import CLASSES, MOTIONS
from tenclip_training.synth.noise import NoisyTags, WebNoise
from tenclip_training.synth.nouns import NOUNS, Association, joint_table
from tenclip_training.synth.plan import VideoSpec, plan_videos
from tenclip_training.synth.renderer import render
from tenclip_training.synth.sites import SITES, site_named
from tenclip_training.synth.tags import tag_classes

__all__ = [
    "SynthConfig",
    "NoisyTags",
    "WebNoise",
    "CLASSES",
    "MOTIONS",
    "NOUNS",
    "SITES",
    "Association",
    "generate",
    "joint_table",
    "VideoSpec",
    "plan_videos",
    "render",
    "site_named",
    "tag_classes",
]
