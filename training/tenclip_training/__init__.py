"""Models, data, training, evaluation, probes, and the loaders of public checkpoints.

>>> from tenclip_training import load_checkpoint  # ours and public ones alike
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenclip_training.loaders import load_checkpoint as load_checkpoint

__all__ = ["load_checkpoint"]


def __getattr__(name: str) -> Any:
    # Late, because it brings torch, and the command line starts without.
    if name == "load_checkpoint":
        from tenclip_training import loaders

        return loaders.load_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
