"""What a run of `tenclip train-sampler` leaves in its folder, and how `tenclip add-sampler` reads it; no torch.

`salience.onnx` (`salience-audio.onnx` of a sampler that listens), `metrics.json`, `history.jsonl`, `failures.jsonl`,
and `sampler.json`: whose scores it learned from, the stopping rule and the temperature, or why there is none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tenclip_api.errors import BundleError
from tenclip_data.atomic import write_text
from tenclip_video.bundle import ScoreCalibration
from tenclip_video.salience.sampler_spec import SamplerKind
from tenclip_video.salience.stopping import StoppingRule, all_rules, read_rules
from tenclip_video.spec import require_types

RESULT_FILE = "sampler.json"
SCHEMA_VERSION = 1


def sampler_file(kind: SamplerKind) -> str:
    """The name of a sampler's file in a run's folder and in a bundle."""
    return "salience-audio.onnx" if kind == "audio" else "salience.onnx"


@dataclass(frozen=True, kw_only=True)
class SamplerResult:
    """file: the sampler, relative to the folder. teacher: as it was asked for; teacher_identity: see `identity_of`.

    stopping: of the error bound that is taken where none is asked for; other_stopping: of other bounds. stopping,
    calibration: None where they could not be made. stopping_refused: why rules are missing, that one or any other;
    calibration_refused: why there is no temperature.
    """

    file: str
    teacher: str
    teacher_identity: str
    stopping: StoppingRule | None = None
    other_stopping: tuple[StoppingRule, ...] = ()
    stopping_refused: str = ""
    calibration: ScoreCalibration | None = None
    calibration_refused: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def rules(self) -> tuple[StoppingRule, ...]:
        """All stopping rules, the strictest bound first."""
        return all_rules(self.stopping, self.other_stopping)

    def write(self, folder: Path) -> None:
        write_text(folder / RESULT_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises BundleError for a folder without `sampler.json`, and for one that is not what a run leaves."""
        path = folder / RESULT_FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if (version := values.get("schema_version")) != SCHEMA_VERSION:
                raise ValueError(f"schema_version {version!r}; this version of tenclip reads {SCHEMA_VERSION}")
            calibration = values.get("calibration")
            made = cls(
                **{
                    **values,
                    **read_rules(values),
                    "calibration": None if calibration is None else ScoreCalibration(**calibration),
                }
            )
            for part in (made, *made.rules, made.calibration):
                if part is not None:
                    require_types(part)
        except FileNotFoundError:
            raise BundleError(f"{folder}: no {RESULT_FILE}, so this is not a folder of tenclip train-sampler") from None
        except OSError as err:
            raise BundleError(f"{path}: cannot be read: {err.strerror or err}") from err
        except (ValueError, TypeError, AttributeError) as err:
            raise BundleError(f"{path}: {err}") from err
        return made
