"""motion.json: the camera motion of a set of videos, fitted by `tenclip omni fit-motion`, drawn from in training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_training.omni.homographies import ENTRIES, HomographyGaussian

FORMAT = "tenclip-motion 1"


@dataclass(frozen=True, kw_only=True)
class Motion:
    """overall: the Gaussian of all videos, class-agnostic. classes: of single classes, where they were fitted.
    sampling: the frames that it is about (frame_stride, target_fps), as plain values.
    """

    overall: HomographyGaussian
    classes: Mapping[str, HomographyGaussian] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def of(self, label: str | None) -> HomographyGaussian:
        """The Gaussian of a class, the overall one where the class has none of its own or none is named."""
        return self.overall if label is None else self.classes.get(label, self.overall)


def write_motion(path: Path | str, motion: Motion, facts: Mapping[str, Any] | None = None) -> None:
    """Write a motion file. facts: further plain values, for people. Raises OSError."""
    values = {
        "format": FORMAT,
        "coordinates": "x' = 2x / (W - 1) - 1, y' = 2y / (H - 1) - 1; from a frame to the next, H33 = 1",
        "entries": list(ENTRIES),
        "sampling": dict(motion.sampling),
        "overall": _to_dict(motion.overall),
        "classes": {label: _to_dict(gaussian) for label, gaussian in motion.classes.items()},
        **({} if facts is None else {"facts": dict(facts)}),
    }
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_motion(path: Path | str) -> Motion:
    """Read what `write_motion` wrote. Raises DatasetError that names the file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        return Motion(
            overall=_gaussian(values["overall"]),
            classes={str(label): _gaussian(g) for label, g in values["classes"].items()},
            sampling=dict(values["sampling"]),
        )
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such motion file; `tenclip omni fit-motion` writes one") from None
    except OSError as err:
        raise DatasetError(f"{path}: cannot be read: {err.strerror or err}") from err
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        what = f"lacks {err}" if isinstance(err, KeyError) else str(err)
        raise DatasetError(f"{path}: is no motion file as `tenclip omni fit-motion` writes it: {what}") from err


def _to_dict(gaussian: HomographyGaussian) -> dict[str, Any]:
    return {
        "homographies": gaussian.count,
        "mean": gaussian.mean.tolist(),
        "covariance": gaussian.covariance.tolist(),
    }


def _gaussian(values: Mapping[str, Any]) -> HomographyGaussian:
    return HomographyGaussian(
        np.array(values["mean"], np.float64),
        np.array(values["covariance"], np.float64),
        int(values.get("homographies", 0)),
    )
