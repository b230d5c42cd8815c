"""SynthConfig: everything that decides which videos or images are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tenclip_training.synth.motions import CLASSES
from tenclip_training.synth.noise import NoisyTags, WebNoise, require
from tenclip_training.synth.nouns import NOUNS, JointTable, LabelKind, joint_table, pair_name
from tenclip_training.synth.scene import BACKGROUNDS
from tenclip_training.synth.sites import site_named

SMALLEST_SIDE = 16  # below it an object is a handful of pixels and H.264 pads more than it codes


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """Which action videos, or stills of their objects, to make.

    classes: verbs from CLASSES; empty takes the first `num_classes` of them (8). nouns: from NOUNS; empty takes all.
    held_out_nouns: so many of the nouns, from the end of their list, are kept apart: `noun_set` says whether this set
    has the others ("kept") or only those ("held-out").
    label: what the column `label` says: the verb, the noun, or both ("pair"); the manifest has all three.
    pairs: of label "pair", the only ones that occur, as "move_left-striped_disc"; empty: all that the table has.
    overlap, zipf: how far a noun tells the verb, and the long tail of both; see nouns.
    kind: "images" makes one frame of each scene, as a file in `image_format` of `image_quality` (JPEG).
    videos_per_class: of the most frequent class, over all splits. total: how many in all instead.
    splits: (name, fraction) pairs that sum to 1.
    seconds: shortest and longest duration. frame_rates: each video draws one; `variable_frame_rate` is the fraction of
    videos whose frames come at irregular times, around that rate.
    objects: fewest and most moving objects, which all do the same action.
    clutter: up to so many motionless things of the same looks; distractors: up to so many that wander aimlessly.
    camera_shake: amplitude as a fraction of the short side; background, clutter and objects move together.
    contrast, noise, blur: of every frame, as in sites.Look; on top of the site's.
    site: a style from sites, in place of backgrounds, frame_rates, camera_shake and crf; it also scales the size.
    untrimmed: shortest and longest part of the video, as fractions, that the action fills; None: all of it.
    scenes: fewest and most scenes of an untrimmed video; each has a background and objects of its own.
    action_scenes: fewest and most of them that show the action. other_actions: probability that one of the rest shows
    the action of another class; otherwise its objects, of another noun, do none.
    long_tail: first class's number of training videos over the last one's, exponential in between (1: balanced);
    zipf: frequency of the r-th class as r ** -zipf. The other splits stay balanced.
    web: wrong labels and items that show none of the classes. source: name of the website, for `source` and `url`.
    crf, gop: quality (H.264) and the most frames between two key frames.
    """

    classes: tuple[str, ...] = ()
    num_classes: int = 8
    nouns: tuple[str, ...] = ()
    held_out_nouns: int = 0
    noun_set: Literal["kept", "held-out"] = "kept"
    label: LabelKind = "verb"
    pairs: tuple[str, ...] = ()
    overlap: float = 0.0
    zipf: float = 0.0
    kind: Literal["videos", "images"] = "videos"
    image_format: Literal["jpg", "png"] = "jpg"
    image_quality: int = 90
    videos_per_class: int = 120
    total: int | None = None
    splits: tuple[tuple[str, float], ...] = (("train", 0.8), ("test", 0.2))
    width: int = 112
    height: int = 84
    seconds: tuple[float, float] = (1.5, 3.0)
    frame_rates: tuple[float, ...] = (30.0, 25.0, 15.0)
    variable_frame_rate: float = 0.2
    objects: tuple[int, int] = (1, 3)
    clutter: int = 2
    distractors: int = 0
    camera_shake: float = 0.01
    backgrounds: tuple[str, ...] = BACKGROUNDS
    contrast: float = 1.0
    noise: float = 0.0
    blur: float = 0.0
    site: str = ""
    untrimmed: tuple[float, float] | None = None
    scenes: tuple[int, int] = (1, 1)
    action_scenes: tuple[int, int] = (1, 1)
    other_actions: float = 0.5
    long_tail: float = 1.0
    noisy_tags: NoisyTags | None = None
    web: WebNoise | None = None
    source: str = ""
    crf: int = 18
    gop: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes:
            _names("motion class", "class", self.classes, CLASSES)
            object.__setattr__(self, "num_classes", len(self.classes))
        most = len(CLASSES)
        require(2 <= self.num_classes <= most, f"num_classes must lie in 2-{most}, got {self.num_classes}")
        self._check_labels()
        self._check_counts()
        self._check_form()
        self._check_scenes()
        self._check_web()
        require(self.seed >= 0, f"seed must not be negative, got {self.seed}")

    def _check_labels(self) -> None:
        _one_of("label", self.label, get_args(LabelKind))
        _one_of("noun_set", self.noun_set, ("kept", "held-out"))
        _names("noun", "noun", self.nouns, NOUNS)
        count = len(self.nouns or NOUNS)
        require(
            0 <= self.held_out_nouns < count,
            f"held_out_nouns must lie in 0-{count - 1} of {count} nouns, got {self.held_out_nouns}",
        )
        require(
            self.noun_set == "kept" or self.held_out_nouns > 0,
            "noun_set is 'held-out', but held_out_nouns is 0; say how many there are, e.g. 4",
        )
        require(0 <= self.overlap <= 1, f"overlap must lie in 0-1, got {self.overlap}")
        require(0 <= self.zipf <= 5, f"zipf must lie in 0-5, got {self.zipf}")
        require(self.zipf == 0 or self.long_tail == 1, "zipf and long_tail are both a long tail; give one of them")
        if self.pairs:
            require(self.label == "pair", f"pairs are classes of label 'pair', and label is {self.label!r}")
            _names("pair", "pair", self.pairs, tuple(pair_name(*pair) for pair in self._whole_table().pairs()))
        require(
            self.label != "noun" or len(self.noun_names) >= 2,
            f"label is the noun, and there is one only, {self.noun_names[0]}; give two or more",
        )

    def _check_counts(self) -> None:
        require(self.videos_per_class >= 1, f"videos_per_class must be at least 1, got {self.videos_per_class}")
        names = [name for name, _ in self.splits]
        require(len(names) > 0 and len(set(names)) == len(names) and all(names), f"split names {names} must differ")
        require(
            all(f >= 0 for _, f in self.splits) and abs(sum(f for _, f in self.splits) - 1) < 1e-6,
            f"the fractions of the splits must be positive and sum to 1, got {dict(self.splits)}",
        )
        classes = len(self.class_names)
        require(
            self.total is None or self.total >= classes,
            f"total must be at least one {self.kind[:-1]} a class, and there are {classes} classes; got {self.total}",
        )
        require(self.long_tail >= 1, f"long_tail is most over fewest videos, at least 1, got {self.long_tail}")

    def _check_form(self) -> None:
        _one_of("kind", self.kind, ("videos", "images"))
        _one_of("image_format", self.image_format, ("jpg", "png"))
        require(1 <= self.image_quality <= 100, f"image_quality must lie in 1-100, got {self.image_quality}")
        require(
            min(self.width, self.height) >= SMALLEST_SIDE and max(self.width, self.height) <= 4096,
            f"size must lie in {SMALLEST_SIDE}-4096 pixels on each side, got {self.width}x{self.height}",
        )
        _range("seconds", self.seconds, 0.1, 3600)
        require(len(self.frame_rates) > 0, "frame_rates is empty; name at least one, e.g. 30")
        require(all(1 <= r <= 240 for r in self.frame_rates), f"frame_rates must lie in 1-240, got {self.frame_rates}")
        variable = self.variable_frame_rate
        require(0 <= variable <= 1, f"variable_frame_rate is a fraction of the videos, got {variable}")
        require(0.05 <= self.contrast <= 3, f"contrast must lie in 0.05-3, got {self.contrast}")
        require(0 <= self.noise <= 100, f"noise must lie in 0-100 levels of 255, got {self.noise}")
        require(0 <= self.blur <= 0.2, f"blur must lie in 0-0.2 short sides, got {self.blur}")
        require(0 <= self.crf <= 51, f"crf must lie in 0-51, got {self.crf}")
        require(self.gop >= 1, f"gop must be at least 1, got {self.gop}")
        if self.site:
            site_named(self.site)

    def _check_scenes(self) -> None:
        _range("objects", self.objects, 1, 9)
        require(0 <= self.clutter <= 50, f"clutter must lie in 0-50, got {self.clutter}")
        require(0 <= self.distractors <= 9, f"distractors must lie in 0-9, got {self.distractors}")
        require(0 <= self.camera_shake <= 0.2, f"camera_shake must lie in 0-0.2 short sides, got {self.camera_shake}")
        require(len(self.backgrounds) > 0, f"backgrounds is empty; name some of {', '.join(BACKGROUNDS)}")
        _names("background", "background", self.backgrounds, BACKGROUNDS)
        if self.untrimmed is not None:
            _range("untrimmed", self.untrimmed, 0.01, 1)
            require(self.kind == "videos", "untrimmed is about videos, and kind is 'images'")
        _range("scenes", self.scenes, 1, 50)
        _range("action_scenes", self.action_scenes, 1, self.scenes[0])
        require(
            self.scenes[1] == 1 or self.untrimmed is not None, "several scenes are for untrimmed videos; say untrimmed"
        )
        require(0 <= self.other_actions <= 1, f"other_actions is a probability, got {self.other_actions}")

    def _check_web(self) -> None:
        plain = all(c.isalnum() or c in "-_." for c in self.source)
        require(plain, f"source must be of letters, digits and -_., got {self.source!r}")
        require(
            self.web is None or self.web.wrong == 0 or len(self.class_names) >= 2,
            f"web.wrong needs another class than {self.class_names[0]}, and there is none",
        )

    @property
    def verb_names(self) -> tuple[str, ...]:
        return self.classes or CLASSES[: self.num_classes]

    @property
    def noun_names(self) -> tuple[str, ...]:
        everything = self.nouns or NOUNS
        kept = len(everything) - self.held_out_nouns
        return everything[:kept] if self.noun_set == "kept" else everything[kept:]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the column `label`; of pairs, those that occur."""
        if self.label == "pair":
            return tuple(pair_name(*pair) for pair in self.joint_table().pairs())
        return self.verb_names if self.label == "verb" else self.noun_names

    def joint_table(self) -> JointTable:
        return self._whole_table().of_pairs(self.pairs) if self.pairs else self._whole_table()

    def _whole_table(self) -> JointTable:
        return joint_table(self.verb_names, self.noun_names, overlap=self.overlap, zipf=self.zipf)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the classes and nouns spelled out."""
        return {**dataclasses.asdict(self), "classes": list(self.verb_names), "nouns": list(self.noun_names)}


def _names(kind: str, short: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    require(not unknown, f"no {kind} {', '.join(unknown)}; there are {', '.join(known)}")
    require(len(set(given)) == len(given), f"a {short} is named twice: {', '.join(given)}")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _range(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    require(
        len(pair) == 2 and low <= pair[0] <= pair[1] <= high,
        f"{name} must be (least, most) within {low:g}-{high:g}, got {pair}",
    )
