"""Which videos or images there will be: `plan_videos(config)` draws each one's facts, without rendering anything."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.content import Claim, Content, World, look_of, pair_of
from tenclip_training.synth.counts import class_counts
from tenclip_training.synth.motions import SPEEDS
from tenclip_training.synth.nouns import noun_of
from tenclip_training.synth.scene import SHAPES, TEXTURES
from tenclip_training.synth.sites import Look, Site, site_named
from tenclip_training.synth.tags import draw_tags
from tenclip_training.synth.untrimmed import IDLE_KINDS, Scene, Stretch, one_action, stretches

TICKS_PER_SECOND: Final = 30_000  # clock of variable-frame-rate files; MPEG-4 part 2 allows 65,535 at most
_SCENES: Final = 6  # purpose of draws, see content


@dataclass(frozen=True, kw_only=True)
class VideoSpec:
    """One video or image: all that `render` needs. Where the joint table leaves nouns free, nothing but `verb` depends
    on the class.
    """

    path: str  # relative to the manifest
    label: str  # what is said about it
    split: str
    width: int
    height: int
    frame_rate: Fraction
    ticks: tuple[int, ...]  # presentation time of each frame, in units of time_base
    time_base: Fraction
    duration: float  # seconds, to the end of the last frame
    start: float  # seconds: the action fills [start, end)
    end: float
    trimmed: bool
    verb: str  # "": nothing acts
    true_label: str  # what it shows
    speed: str
    objects: int
    shape: str  # "": no object
    texture: str
    background: str
    idle: str  # one of IDLE_KINDS
    clutter: int
    distractors: int
    camera_shake: float
    look: Look
    scenes: tuple[Scene, ...]  # of several; () is one
    tags: tuple[str, ...]
    site: str
    source: str
    is_image: bool
    claim: Claim
    seed: int
    key: tuple[int, ...]  # spawn key of everything that is drawn for this video

    @property
    def variable_frame_rate(self) -> bool:
        return self.time_base != 1 / self.frame_rate

    @property
    def times(self) -> NDArray[np.float64]:
        """[N] presentation times in seconds, ascending, the first one 0."""
        return np.asarray(self.ticks, np.float64) * float(self.time_base)

    @property
    def noun(self) -> str:
        return noun_of(self.shape, self.texture) if self.shape else ""

    @property
    def pair(self) -> str:
        return pair_of(self.verb, self.noun)

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """(start, end) in seconds of each piece of the action of `true_label`; () where all of the video is it, or
        nothing."""
        if self.trimmed or self.claim == "off_topic":
            return ()
        if not self.scenes:
            return ((self.start, self.end),)
        return tuple(scene.action for scene in self.scenes if scene.shows_label)

    @property
    def url(self) -> str:
        """Where it would be on the web; "" without a source. The same for the same draws, and no two alike."""
        if not self.source:
            return ""
        number = hashlib.sha256(repr((self.seed, self.key)).encode()).hexdigest()[:12]
        return f"https://{self.source}.example/{'images' if self.is_image else 'watch'}/{number}"


def plan_videos(config: SynthConfig) -> list[VideoSpec]:
    """Every video or image of `config`, in the order of the manifest: by class, split and index.

    A video's draws hang on (seed, class, index) alone, so neither other classes nor the number of videos change it;
    but which ones of a noisy source are wrong hangs on how many there are.
    """
    world, site = World(config=config), site_of(config)
    items = [
        (label, split, index)
        for label, counts in class_counts(config).items()
        for index, split in enumerate(name for name, count in counts.items() for _ in range(count))
    ]
    noisy = config.splits[0][0]
    claims = iter(world.claims(sum(split == noisy for _, split, _ in items)))
    return [
        _plan_item(world, site, label, split, index, next(claims) if split == noisy else "right")
        for label, split, index in items
    ]


def site_of(config: SynthConfig) -> Site:
    """The style of the site, or of the configuration's own settings, with its knobs of difficulty."""
    if config.site:
        site = site_named(config.site)
    else:
        site = Site(
            look=Look(),
            backgrounds=config.backgrounds,
            frame_rates=config.frame_rates,
            camera_shake=config.camera_shake,
            crf=config.crf,
        )
    look = dataclasses.replace(
        site.look,
        contrast=site.look.contrast * config.contrast,
        blur=float(np.hypot(site.look.blur, config.blur)),
        noise=float(np.hypot(site.look.noise, config.noise)),
    )
    return dataclasses.replace(site, look=look)


def _plan_item(world: World, site: Site, label: str, split: str, index: int, claim: Claim) -> VideoSpec:
    config, key = world.config, world.key(label, index)
    content = world.content(label, index, claim)
    # The draws below and their order are what makes a seed's videos what they are.
    rng = world.rng(key, 0)
    rate = Fraction(site.frame_rates[rng.integers(len(site.frame_rates))]).limit_denominator(1001)
    count = max(2, round(rng.uniform(*config.seconds) * rate))
    ticks, time_base, duration = _frame_ticks(count, rate, rng, variable=rng.random() < config.variable_frame_rate)
    start, end = (0.0, duration) if config.untrimmed is None else one_action(duration, config.untrimmed, rng)
    appearance = _appearance(config, site, rng)
    tags = draw_tags(label, world.classes, config.noisy_tags, rng) if config.noisy_tags else ()
    spec = VideoSpec(
        path=_path(config, label, index),
        label=label,
        split=split,
        width=_side(config.width, site.scale),
        height=_side(config.height, site.scale),
        frame_rate=rate,
        ticks=ticks,
        time_base=time_base,
        duration=duration,
        start=start,
        end=end,
        trimmed=config.untrimmed is None,
        verb=content.verb,
        true_label=content.true_label,
        camera_shake=site.camera_shake,
        look=site.look,
        scenes=(),
        tags=tags,
        site=config.site,
        source=config.source,
        is_image=config.kind == "images",
        claim=claim,
        seed=config.seed,
        key=key,
        **dataclasses.asdict(appearance),
    )
    if not (world.nouns_are_free and claim == "right"):
        spec = _with_noun(spec, content)
    if not content.verb:  # aimless all the time
        spec = dataclasses.replace(spec, trimmed=False, start=duration, end=duration, idle="wander")
    if config.scenes[1] > 1:
        scenes = _plan_scenes(world, site, spec, content)
        acting = [scene.action for scene in scenes if scene.shows_label]
        spec = dataclasses.replace(spec, scenes=scenes, start=acting[0][0], end=acting[0][1])
    # One frame is enough: at every time of every class, states have the same distribution.
    return dataclasses.replace(spec, ticks=ticks[:1]) if spec.is_image else spec


@dataclass(frozen=True, kw_only=True)
class _Appearance:
    """What a scene looks like."""

    speed: str
    objects: int
    shape: str
    texture: str
    background: str
    idle: str
    clutter: int
    distractors: int


def _appearance(config: SynthConfig, site: Site, rng: np.random.Generator) -> _Appearance:
    return _Appearance(
        speed=_pick(tuple(SPEEDS), rng),
        objects=int(rng.integers(config.objects[0], config.objects[1] + 1)),
        shape=_pick(SHAPES, rng),
        texture=_pick(TEXTURES, rng),
        background=_pick(site.backgrounds, rng),
        idle=_pick(IDLE_KINDS, rng),
        clutter=int(rng.integers(config.clutter + 1)),
        distractors=int(rng.integers(config.distractors + 1)),
    )


def _with_noun(spec: VideoSpec, content: Content) -> VideoSpec:
    shape, texture = look_of(content.noun)
    return dataclasses.replace(spec, shape=shape, texture=texture, objects=spec.objects if content.noun else 0)


def _plan_scenes(world: World, site: Site, spec: VideoSpec, content: Content) -> tuple[Scene, ...]:
    config = world.config
    assert config.untrimmed is not None  # the configuration sees to it
    rng = world.rng(spec.key, _SCENES)
    count = int(rng.integers(config.scenes[0], config.scenes[1] + 1))
    acting = int(rng.integers(config.action_scenes[0], config.action_scenes[1] + 1))
    found = stretches(spec.duration, config.untrimmed, scenes=count, acting=acting, rng=rng)
    return tuple(_scene(world, site, spec, content, stretch, rng) for stretch in found)


def _scene(
    world: World, site: Site, spec: VideoSpec, content: Content, stretch: Stretch, rng: np.random.Generator
) -> Scene:
    config = world.config
    looks = dataclasses.asdict(_appearance(config, site, rng))
    if stretch.action is not None:
        looks |= {"shape": spec.shape, "texture": spec.texture}
        looks["objects"] = looks["objects"] if spec.shape else 0
        verb = content.verb
        action = stretch.action if verb else (stretch.end, stretch.end)
        looks["idle"] = looks["idle"] if verb else "wander"
    else:
        acts = bool(rng.random() < config.other_actions)
        other = world.other(content, rng, acts=acts)
        verb, (looks["shape"], looks["texture"]) = other.verb, look_of(other.noun)
        action = (stretch.start, stretch.end) if acts else (stretch.end, stretch.end)
    return Scene(
        start=stretch.start,
        end=stretch.end,
        action=action,
        shows_label=stretch.action is not None,
        verb=verb,
        **looks,
    )


def _path(config: SynthConfig, label: str, index: int) -> str:
    suffix = "mp4" if config.kind == "videos" else config.image_format
    return f"{config.kind}/{label}/{label}_{index:05d}.{suffix}"


def _side(pixels: int, scale: float) -> int:
    """Even where it is scaled: H.264 halves the sides of its colour planes."""
    return pixels if scale == 1 else max(16, 2 * round(pixels * scale / 2))


def _frame_ticks(
    count: int, rate: Fraction, rng: np.random.Generator, *, variable: bool
) -> tuple[tuple[int, ...], Fraction, float]:
    """(presentation times, their unit, duration in seconds) of `count` frames."""
    if not variable:
        return tuple(range(count)), 1 / rate, float(count / rate)
    # Intervals between 0.6 and 1.4 of the nominal one, as phones record in changing light.
    intervals = np.rint(rng.uniform(0.6, 1.4, size=count) * TICKS_PER_SECOND / float(rate)).astype(np.int64)
    ends = np.cumsum(intervals)
    return (0, *(int(t) for t in ends[:-1])), Fraction(1, TICKS_PER_SECOND), float(ends[-1]) / TICKS_PER_SECOND


def _pick(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[rng.integers(len(names))]
