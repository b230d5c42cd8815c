"""Where a run is, and what it has found: all that last.pt holds beside weights, optimiser and meter."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tenclip_training.runs.results import EpochResult


@dataclass
class RunState:
    """epoch and step (within it) count what is done. best: (video top-1, or mAP with sigmoids; -loss) of best.pt.

    val_seconds: of the last validation, for the estimate of what is left. changes: settings that were changed when a
    run whose loss was not finite was resumed: {"step": n, "setting": name, "was": value, "now": value}.
    """

    epoch: int = 0
    step: int = 0
    history: list[EpochResult] = field(default_factory=list)
    best: tuple[float, float] | None = None
    val_seconds: float = 0.0
    changes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def val_losses(self) -> list[float]:
        """Of the validations so far, in their order."""
        return [h.val_loss for h in self.history if h.val_loss is not None]

    @property
    def last_val_top1(self) -> float | None:
        """Of the last validation; None before the first."""
        return next((h.val_video_top1 for h in reversed(self.history) if h.val_video_top1 is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `restore` reads them back."""
        return {**asdict(self), "best": None if self.best is None else list(self.best)}

    def restore(self, state: dict[str, Any]) -> None:
        """Raises KeyError or TypeError for a state of something else."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.history = [EpochResult(**h) for h in state["history"]]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self.val_seconds, self.changes = state["val_seconds"], list(state["changes"])
