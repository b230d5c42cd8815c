"""The page of `tenclip inspect-model`: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from tenclip_data.atomic import write_text
from tenclip_training.inspection.embedding import Embedding
from tenclip_training.inspection.kernels import Kernels, pictures

# Of ten classes, as far apart as ten colours can be (Okabe and Ito's, and two more).
COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#a6761d", "#7570b3", "#999933",
)  # fmt: skip
SIZE = 460  # of the map in pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class InspectedModel:
    """A network as the page shows it. kernels: its first ones; over_time: the first ones over time, where others."""

    name: str
    architecture: str
    parameters: int
    classes: int
    kernels: Kernels
    over_time: Kernels | None = None
    embedding: Embedding | None = None
    features_from: str = ""
    left_out: int = 0

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        measured = self.over_time or self.kernels
        found: dict[str, Any] = {
            "model": self.name,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "classes": self.classes,
            "first_layer": self.kernels.name,
            "over_time": measured.name,
            "temporal_variance": measured.temporal_variance,
            "temporal_share": measured.temporal_share,
        }
        if self.embedding is not None:
            found |= {
                "videos": len(self.embedding.names),
                "videos_without_features": self.left_out,
                "classes_shown": list(self.embedding.classes),
                "silhouette": self.embedding.silhouette,
                "neighbour_accuracy": self.embedding.neighbour_accuracy,
                "chance": self.embedding.chance,
            }
        return found


def write_page(path: Path | str, models: Sequence[InspectedModel]) -> None:
    """Write the page. Raises OSError."""
    environment = Environment(
        loader=PackageLoader("tenclip_training.inspection"), autoescape=True, undefined=StrictUndefined
    )
    shown = [_shown(model) for model in models]
    write_text(path, environment.get_template("model.html").render(models=shown, size=SIZE))


def _shown(model: InspectedModel) -> dict[str, Any]:
    layers = [model.kernels] if model.over_time is None else [model.kernels, model.over_time]
    return {
        "model": model,
        "layers": [
            {
                "kernels": layer,
                # Kernels over time alone, of 1x1 pixels, are no pictures.
                "pictures": [_png(picture) for picture in pictures(layer)] if layer.weights.shape[-1] > 1 else [],
            }
            for layer in layers
        ],
        "dots": [] if model.embedding is None else _dots(model.embedding),
        "legend": [] if model.embedding is None else list(zip(model.embedding.classes, _colors(), strict=False)),
    }


def _colors() -> list[str]:
    return list(COLORS) * 10


def _dots(embedding: Embedding) -> list[dict[str, Any]]:
    low, high = embedding.points.min(0), embedding.points.max(0)
    places = (embedding.points - low) / np.where(high > low, high - low, 1) * (SIZE - 20) + 10
    color_of = dict(zip(embedding.classes, _colors(), strict=False))
    return [
        {"x": round(float(x), 1), "y": round(float(y), 1), "color": color_of[label], "title": f"{label}: {name}"}
        for (x, y), label, name in zip(places, embedding.labels, embedding.names, strict=True)
    ]


def _png(picture: NDArray[np.uint8]) -> str:
    """A data URI."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"
