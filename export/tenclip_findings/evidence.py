"""What a finding rests on, in files that outlive the jobs: which test videos each arm of each seed got right.

FOLDER/NAME.json is a finding. Verdicts follow from it alone, and a seed that it has need not be done again while the
settings are the same. Hits are one bit a video, so that five seeds of ten arms take some 20 kB.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_findings.lab.arms import WIDTH

FORMAT = 2
SUFFIX = ".json"


LEARNED = 0.1  # of the entropy of the labels that a pre-training has to have taken off its loss


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What a network that an arm rests on made of its own training clips in its last epoch. top1: of them right, from 0
    to 1. loss: cross entropy, in nats. entropy: of the labels, the loss of one that knows their frequencies and sees
    nothing.
    """

    title: str
    top1: float
    loss: float
    entropy: float

    @property
    def learned(self) -> bool:
        return self.loss <= (1 - LEARNED) * self.entropy


@dataclass(frozen=True, kw_only=True, eq=False)
class SeedEvidence:
    """correct: by arm, [N] of the same N test videos. pretrainings: by arm; None for evidence that does not say.
    fitted: by arm, the part of its own training that it got right, from 0 to 1: of the clips of its network's last
    epoch, or of the videos of a linear classifier; of arms that say so.

    version: of tenclip, with its commit where there is one.

    seconds: of the jobs' processes together. precision: that all networks of the seed were trained in, "fp32"
    or "bf16"; None where nobody knows.
    """

    seed: int
    correct: Mapping[str, NDArray[np.bool_]]
    date: str
    version: str
    machine: str
    seconds: float
    precision: str | None
    pretrainings: Mapping[str, Sequence[Pretraining]] | None = None
    fitted: Mapping[str, float] = field(default_factory=dict)

    @property
    def videos(self) -> int:
        return len(next(iter(self.correct.values())))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "seed": self.seed,
            "date": self.date,
            "version": self.version,
            "machine": self.machine,
            "precision": self.precision,
            "process_seconds": round(self.seconds),
            "videos": self.videos,
            "arms": {
                name: {
                    "top1": round(100 * float(hits.mean()), 4),
                    **({"fitted": round(self.fitted[name], 4)} if name in self.fitted else {}),
                    "correct": pack(hits),
                    **self._pretrained(name),
                }
                for name, hits in self.correct.items()
            },
        }

    def _pretrained(self, arm: str) -> dict[str, Any]:
        if self.pretrainings is None:
            return {}
        return {"pretrainings": [dataclasses.asdict(p) for p in self.pretrainings.get(arm, ())]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SeedEvidence:
        """Raises KeyError, TypeError or ValueError for anything else than `to_dict` gives."""
        return cls(
            seed=int(values["seed"]),
            date=str(values["date"]),
            version=str(values["version"]),
            machine=str(values["machine"]),
            seconds=float(values["process_seconds"]),
            precision=None if values["precision"] is None else str(values["precision"]),
            correct={name: unpack(arm["correct"], int(values["videos"])) for name, arm in values["arms"].items()},
            pretrainings=_pretrainings(values["arms"]),
            fitted={name: float(arm["fitted"]) for name, arm in values["arms"].items() if "fitted" in arm},
        )


def _pretrainings(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Pretraining]] | None:
    if not any("pretrainings" in arm for arm in arms.values()):
        return None
    return {
        name: [
            Pretraining(
                title=str(p["title"]), top1=float(p["top1"]), loss=float(p["loss"]), entropy=float(p["entropy"])
            )
            for p in arm["pretrainings"]
        ]
        for name, arm in arms.items()
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """settings: digest of everything that decides the results but the seed and the precision; see `run.settings_of`."""

    name: str
    settings: str
    scale: float
    width: int = WIDTH
    seeds: tuple[SeedEvidence, ...]

    def with_seed(self, seed: SeedEvidence) -> Evidence:
        """The same with one seed more, in the place of that seed's earlier evidence."""
        others = [s for s in self.seeds if s.seed != seed.seed]
        seeds = tuple(sorted([*others, seed], key=lambda s: s.seed))
        return dataclasses.replace(self, seeds=seeds)


def read_evidence(folder: Path, name: str) -> Evidence | None:
    """None where there is no file of this finding. Raises DatasetError for one that cannot be read."""
    path = folder / f"{name}{SUFFIX}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}, and {FORMAT} can be read")
        seeds = tuple(SeedEvidence.from_dict(s) for s in values["seeds"])
        return Evidence(
            name=values["finding"],
            settings=values["settings"],
            scale=float(values["scale"]),
            width=int(values.get("width", WIDTH)),
            seeds=seeds,
        )
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as err:
        raise DatasetError(
            f"{path}: is no evidence of a finding ({err!r}); restore it, or remove it to run the finding anew"
        ) from err


def write_evidence(folder: Path, evidence: Evidence) -> Path:
    """Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{evidence.name}{SUFFIX}"
    values = {
        "format": FORMAT,
        "finding": evidence.name,
        "settings": evidence.settings,
        "scale": evidence.scale,
        "width": evidence.width,
        "seeds": [seed.to_dict() for seed in evidence.seeds],
    }
    write_text(path, json.dumps(values, indent=1) + "\n")
    return path


def pack(hits: NDArray[np.bool_]) -> str:
    """Bits of [N] in base64, the first video in the highest bit of the first byte.

    >>> pack(np.array([True, False, True]))
    'oA=='
    """
    return base64.b64encode(np.packbits(hits).tobytes()).decode("ascii")


def unpack(text: str, videos: int) -> NDArray[np.bool_]:
    """Raises ValueError for text of other than so many videos.

    >>> unpack("oA==", 3).tolist()
    [True, False, True]
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise ValueError(f"hits that are no base64: {err}") from err
    if videos < 1 or len(data) != (videos + 7) // 8:
        raise ValueError(f"hits of {8 * len(data)} videos at most, not of {videos}")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=videos).astype(np.bool_)
