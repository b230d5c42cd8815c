"""What an item shows, and what is said about it: (verb, noun) from the joint table, and the noise of the web on it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.motions import CLASSES
from tenclip_training.synth.nouns import NOUN_LOOKS, NOUNS, JointTable, pair_name

Claim = Literal["right", "wrong", "off_topic"]
OFF_TOPIC: Final = "off_topic"  # true label of what shows none of the classes
_GOLDEN: Final = (5**0.5 - 1) / 2
_NOUN_CODES, _PAIR_CODES = 1_000, 2_000  # of classes that are no verbs, in the keys of random draws


@dataclass(frozen=True, kw_only=True)
class Content:
    """What an item shows. verb: "" where nothing acts. noun: "" where there is no object."""

    verb: str
    noun: str
    true_label: str


@dataclass(frozen=True, kw_only=True)
class World:
    """The classes of a configuration with what is drawn for them. `stream` sets apart the draws of images, sources
    and sites, so that none of them is a copy of a video of the same seed; 0: plain videos."""

    config: SynthConfig
    table: JointTable = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    stream: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", self.config.joint_table())
        object.__setattr__(self, "classes", self.config.class_names)
        object.__setattr__(self, "stream", _stream(self.config))

    @property
    def nouns_are_free(self) -> bool:
        """Every noun is as likely with every class, so that the drawing of shape and texture alone will do."""
        c = self.config
        return c.label == "verb" and c.overlap == 0 and c.zipf == 0 and self.table.nouns == NOUNS

    def key(self, label: str, index: int) -> tuple[int, ...]:
        """What every draw of an item hangs on, besides the seed."""
        key = (_code(label), index)
        return (*key, self.stream) if self.stream else key

    def rng(self, key: tuple[int, ...], purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.config.seed, spawn_key=(*key, purpose)))

    def claims(self, count: int) -> list[Claim]:
        """`count` claims of which the shares of `config.web` are wrong and off topic, in an order of the seed's."""
        web = self.config.web
        if web is None:
            return ["right"] * count
        wrong, off_topic = round(count * web.wrong), round(count * web.off_topic)
        off_topic = min(off_topic, count - wrong)  # both halves of an odd count round up
        in_order: list[Claim] = ["wrong"] * wrong
        in_order += ["off_topic"] * off_topic
        in_order += ["right"] * (count - len(in_order))
        order = self.rng((self.stream,), _CLAIMS).permutation(count)
        return [in_order[i] for i in order]

    def content(self, label: str, index: int, claim: Claim) -> Content:
        """What the item `index` of `label` shows, if what is claimed about it is so."""
        if claim == "right":
            return self._showing(label, self._position(label, index))
        rng = self.rng(self.key(label, index), _CONTENT)
        if claim == "wrong":
            others = [c for c in self.classes if c != label]
            return self._showing(others[rng.integers(len(others))], float(rng.random()))
        return self._off_topic(rng)

    def other(self, content: Content, rng: np.random.Generator, *, acts: bool) -> Content:
        """What another scene of the same video shows: another verb or none, and, where there are two, another noun."""
        verbs = [v for v in self.table.verbs if v != content.verb]
        verb = verbs[rng.integers(len(verbs))] if acts else ""
        row = self.table.verbs.index(verb) if verb else slice(None)
        weights = np.atleast_2d(self.table.probability[row]).sum(axis=0)
        names = self.table.nouns
        kept = np.array([w if n != content.noun else 0.0 for n, w in zip(names, weights, strict=True)])
        if kept.sum() == 0:  # the verb has no other noun of its own
            kept = np.array([float(n != content.noun or len(names) == 1) for n in names])
        noun = names[rng.choice(len(names), p=kept / kept.sum())]
        return Content(verb=verb, noun=noun, true_label="")

    def _showing(self, label: str, at: float) -> Content:
        """at: quantile of the half of the pair that `label` leaves open."""
        if self.config.label == "verb":
            verb, noun = label, self.table.noun_given(label, at)
        elif self.config.label == "noun":
            verb, noun = self.table.verb_given(label, at), label
        else:
            verb, _, noun = label.rpartition("-")
        return Content(verb=verb, noun=noun, true_label=label)

    def _position(self, label: str, index: int) -> float:
        """A quantile: successive items of a class fall evenly over (0, 1), so that few have the table's shares too."""
        first = self.rng((_code(label), self.stream), _QUANTILE).random()
        return float((first + index * _GOLDEN) % 1.0)

    def _off_topic(self, rng: np.random.Generator) -> Content:
        """A verb and a noun that the set has not; where it has all of them, nothing acts, and nothing is there."""
        verbs = [v for v in CLASSES if v not in self.table.verbs]
        nouns = [n for n in NOUNS if n not in self.table.nouns]
        at = rng.random(2)
        verb = verbs[int(at[0] * len(verbs))] if verbs else ""
        noun = nouns[int(at[1] * len(nouns))] if nouns else ""
        if not noun and self.config.label == "verb" and self.config.kind == "videos":
            noun = NOUNS[int(at[1] * len(NOUNS))]
        return Content(verb=verb, noun=noun, true_label=OFF_TOPIC)


_QUANTILE, _CONTENT, _CLAIMS = 3, 4, 7  # purposes of draws; plan has 0, renderer 1, looks 5, scenes 6


def _stream(config: SynthConfig) -> int:
    if config.kind == "videos" and config.web is None and not config.source and not config.site:
        return 0
    return 1_000 + zlib.crc32(f"{config.kind}/{config.source}/{config.site}".encode())


def _code(label: str) -> int:
    verb, _, noun = label.rpartition("-")
    if verb:
        return _PAIR_CODES + CLASSES.index(verb) * len(NOUNS) + NOUNS.index(noun)
    return CLASSES.index(label) if label in CLASSES else _NOUN_CODES + NOUNS.index(label)


def pair_of(verb: str, noun: str) -> str:
    """The pair's name; "" where half of it is not there."""
    return pair_name(verb, noun) if verb and noun else ""


def look_of(noun: str) -> tuple[str, str]:
    """(shape, texture); ("", "") of no object."""
    return NOUN_LOOKS[noun] if noun else ("", "")
