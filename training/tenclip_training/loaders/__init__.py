"""Loaders for checkpoints, ours and public ones: `load_checkpoint` gives the network, its input and its provenance.

>>> model, clip_spec, provenance = load_checkpoint("r2plus1d_34_clip32_ft_kinetics.pth", family="ig65m-32f")

Reading order: `files` (the tensors of a file; `pickles`, `torch_files` and `safetensors` are its formats), `layouts`
(which family's network they are; `mmaction2`, `pytorchvideo` and `caffe2` are large families), `configuration` and
`choose` (what shapes do not show), `presets` (the input), `load` (all together). `load_any` gives labels and notes
too, and `load_public_checkpoint` takes public checkpoints only.
"""

from tenclip_training.loaders.any import Loaded, load_any, load_checkpoint
from tenclip_training.loaders.load import PublicCheckpoint, load_public_checkpoint
from tenclip_training.loaders.presets import PRESETS, Preset

__all__ = ["load_checkpoint", "load_any", "Loaded", "load_public_checkpoint", "PublicCheckpoint", "PRESETS", "Preset"]
