"""What a seed takes of the data: classes to pre-train on, a target of the others, and networks trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenclip_findings.footage.data import TRAIN, Footage
from tenclip_findings.lab.arms import LAST, MANIFEST, SPEC, Lab
from tenclip_findings.lab.jobs import Job, Output
from tenclip_findings.lab.sets import SET_CLIPS, TARGET_CLIPS

MOST_TEST_VIDEOS = 3200  # a random part of more


@dataclass(frozen=True, kw_only=True)
class FootageLab:
    """A seed's laboratory on data that is there."""

    lab: Lab
    footage: Footage

    @property
    def source(self) -> Job:
        """Training videos of the classes to pre-train on."""
        return self._part(self.footage.halves(self.lab.seed)[0], TRAIN, "to pre-train on")

    @property
    def target(self) -> Job:
        """Training videos of the target."""
        return self._part(self.footage.halves(self.lab.seed)[1], TRAIN, "of the target")

    @property
    def tests(self) -> Job:
        """Test videos of the target."""
        classes = self.footage.halves(self.lab.seed)[1]
        return self._part(classes, self.footage.test_split, "to test on", tests=MOST_TEST_VIDEOS)

    def clips(self, videos: Job, **settings: Any) -> Job:
        """The middle clip of every video, or others of `tasks_footage.clips`."""
        values = {"manifest": videos / MANIFEST, "spec": SPEC, **settings}
        return Job("lab.tasks_footage.clips", values, title="decode test clips")

    def pretrained(self, name: str, data: Job, **values: Any) -> Job:
        """A network that has learned from some of the source; `/ LAST` is its weights."""
        return self.lab.train(f"on {name}", data, clips=SET_CLIPS, **values)

    def finetuned(self, name: str, start: Output | None, **values: Any) -> Job:
        """Scores of a network that has learned the target, on middle clips; from random weights without `start`."""
        return self.lab.score(self.tuned(name, start, **values) / LAST, self.clips(self.tests))

    def tuned(self, name: str, start: Output | None, **values: Any) -> Job:
        """The network of `finetuned`."""
        return self.lab.train(name, self.target, clips=TARGET_CLIPS, start=start, **values)

    def probe(self, network: Job) -> Job:
        """fc-only on the target."""
        return self.lab.probe(network / LAST, self.clips(self.target), self.clips(self.tests))

    def scratch(self) -> Job:
        return self.finetuned("from scratch", None)

    def _part(self, classes: tuple[str, ...], split: str, what: str, tests: int | None = None) -> Job:
        settings: dict[str, Any] = {
            "manifest": str(self.footage.path),
            "digest": self.footage.digest,
            "classes": list(classes),
            "split": split,
        }
        if tests is not None:
            settings["tests"] = tests
        footage = self.footage
        counts = footage.train if split == TRAIN else footage.test
        videos = min(sum(counts[c] for c in classes), MOST_TEST_VIDEOS if tests is None else tests)
        seconds = videos * footage.mean_seconds
        return Job("lab.tasks_footage.part", settings, title=f"videos {what}", videos=videos, video_seconds=seconds)
