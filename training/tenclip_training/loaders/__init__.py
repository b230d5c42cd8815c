"""Checkpoints, ours and public ones, exact: `load_checkpoint` gives the network, its input and where it is from.

>>> model, clip_spec, provenance = load_checkpoint("r2plus1d_34_clip32_ft_kinetics.pth", family="ig65m-32f")

Reading order: `files` (a file's tensors), `layouts` (whose they are), `presets` (their input), `load` (all together).
`load_any` tells labels and notes too, and `load_public_checkpoint` takes public ones only.
"""

from tenclip_training.loaders.any import Loaded, load_any, load_checkpoint
from tenclip_training.loaders.load import PublicCheckpoint, load_public_checkpoint
from tenclip_training.loaders.presets import PRESETS, Preset

__all__ = ["load_checkpoint", "load_any", "Loaded", "load_public_checkpoint", "PublicCheckpoint", "PRESETS", "Preset"]
