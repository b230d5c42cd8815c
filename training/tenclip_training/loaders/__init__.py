"""Public checkpoints, exact: `load_public_checkpoint` gives the authors' network, its input and where it is from.

>>> model, clip_spec, provenance = load_public_checkpoint("r2plus1d_34_clip32_ft_kinetics.pth", family="ig65m-32f")

Reading order: `files` (a file's tensors), `layouts` (whose they are), `presets` (their input), `load` (all together).
`load_any` takes checkpoints of ours too.
"""

from tenclip_training.loaders.any import Loaded, load_any
from tenclip_training.loaders.load import PublicCheckpoint, load_public_checkpoint
from tenclip_training.loaders.presets import PRESETS, Preset

__all__ = ["load_any", "Loaded", "load_public_checkpoint", "PublicCheckpoint", "PRESETS", "Preset"]
