"""Nouns, what moves, beside verbs, how it moves; and the joint table that says how far a noun gives its verb away.

A noun is a shape with a texture: `striped_disc`. A single frame shows the noun and never the verb (see motions). How
much a frame says about the class therefore hangs on one number, `overlap`:

    P(v, n) = a(v) * ((1 - overlap) * b(n) + overlap * b(n | n is one of v's own nouns))

a and b are the frequencies of verbs and nouns, rank to the power of -zipf, ranks in the order of the lists. Noun i is
verb (i mod V)'s own; where there are fewer nouns than verbs, verb i has noun (i mod N). So with at least as many nouns
as verbs: overlap 0 makes nouns independent of verbs, overlap 1 makes a noun determine its verb, and between them the
noun alone names the verb in a share `overlap + (1 - overlap) / V` of the videos (zipf 0, N a multiple of V).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_training.synth.scene import SHAPES, TEXTURES

Floats = NDArray[np.float64]
LabelKind = Literal["verb", "noun", "pair"]

_ADJECTIVES: Final = {"stripes": "striped", "checker": "checkered", "dots": "dotted", "marble": "marbled"}


def _look_of_nouns() -> dict[str, tuple[str, str]]:
    # By diagonals: every four in a row have each shape and each texture once, so that nouns held out from the end
    # are new combinations of what the others have shown.
    looks = {}
    for turn in range(len(TEXTURES)):
        for i, shape in enumerate(SHAPES):
            texture = TEXTURES[(i + turn) % len(TEXTURES)]
            looks[f"{_ADJECTIVES[texture]}_{shape}"] = (shape, texture)
    return looks


NOUN_LOOKS: Final[dict[str, tuple[str, str]]] = _look_of_nouns()  # noun -> (shape, texture)
NOUNS: Final[tuple[str, ...]] = tuple(NOUN_LOOKS)
_NOUN_OF_LOOK: Final = {look: noun for noun, look in NOUN_LOOKS.items()}


def noun_of(shape: str, texture: str) -> str:
    return _NOUN_OF_LOOK[shape, texture]


def pair_name(verb: str, noun: str) -> str:
    """
    >>> pair_name("move_left", "striped_disc")
    'move_left-striped_disc'
    """
    return f"{verb}-{noun}"


@dataclass(frozen=True)
class Association:
    """How far one frame's noun tells the verb, from a [V, N] table of counts or probabilities.

    mutual_information: bits, of verb and noun. verb_entropy: bits, its upper bound. noun_only_accuracy: share that is
    right when every noun is answered with its most frequent verb. chance: the share of the most frequent verb.
    """

    mutual_information: float
    verb_entropy: float
    noun_only_accuracy: float
    chance: float

    @classmethod
    def of(cls, table: Floats | NDArray[np.int64]) -> Association:
        """Raises ValueError where the table is empty. From few rows information is overstated (a plug-in estimate)."""
        total = float(table.sum())
        if total <= 0:
            raise ValueError("an association needs at least one verb with a noun")
        joint = np.asarray(table, np.float64) / total
        verbs, nouns = joint.sum(axis=1), joint.sum(axis=0)
        information = _entropy(verbs) + _entropy(nouns) - _entropy(joint.ravel())
        return cls(
            mutual_information=max(0.0, information),
            verb_entropy=_entropy(verbs),
            noun_only_accuracy=float(joint.max(axis=0).sum()),
            chance=float(verbs.max()),
        )


@dataclass(frozen=True, kw_only=True)
class JointTable:
    """P(verb, noun): [V, N], sums to 1."""

    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    probability: Floats

    def noun_given(self, verb: str, at: float) -> str:
        """The noun at quantile `at` (0 to 1) of P(noun | verb)."""
        return self.nouns[_quantile(self.probability[self.verbs.index(verb)], at)]

    def verb_given(self, noun: str, at: float) -> str:
        """The verb at quantile `at` (0 to 1) of P(verb | noun)."""
        return self.verbs[_quantile(self.probability[:, self.nouns.index(noun)], at)]

    def pairs(self) -> dict[tuple[str, str], float]:
        """(verb, noun) -> probability of every pair that occurs, by verb, then noun."""
        rows = zip(self.verbs, self.probability, strict=True)
        return {(verb, noun): float(p) for verb, row in rows for noun, p in zip(self.nouns, row, strict=True) if p > 0}

    def of_pairs(self, names: Sequence[str]) -> JointTable:
        """The table where only the pairs of these names occur, as frequent among each other as before."""
        named = np.array([[pair_name(verb, noun) in names for noun in self.nouns] for verb in self.verbs])
        kept = np.where(named, self.probability, 0.0)
        return replace(self, probability=kept / kept.sum())

    def association(self) -> Association:
        return Association.of(self.probability)


def joint_table(verbs: Sequence[str], nouns: Sequence[str], *, overlap: float, zipf: float = 0.0) -> JointTable:
    """The table of the formula above.

    >>> table = joint_table(['shake', 'pulse'], NOUNS[:4], overlap=0.5)
    >>> table.probability.tolist()
    [[0.1875, 0.0625, 0.1875, 0.0625], [0.0625, 0.1875, 0.0625, 0.1875]]
    >>> table.association().noun_only_accuracy
    0.75
    """
    a, b = zipf_weights(len(verbs), zipf), zipf_weights(len(nouns), zipf)
    own = np.zeros((len(verbs), len(nouns)))
    for i in range(max(own.shape)):
        own[i % len(verbs), i % len(nouns)] = b[i % len(nouns)]
    own /= own.sum(axis=1, keepdims=True)
    probability = a[:, None] * ((1 - overlap) * b + overlap * own)
    return JointTable(verbs=tuple(verbs), nouns=tuple(nouns), probability=probability)


def zipf_weights(count: int, exponent: float) -> Floats:
    """[count] rank ** -exponent, scaled to sum 1.

    >>> zipf_weights(3, 1.0).round(3).tolist()
    [0.545, 0.273, 0.182]
    """
    weights: Floats = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    weights /= weights.sum()
    return weights


def _quantile(weights: Floats, at: float) -> int:
    steps = np.cumsum(weights)
    chosen = int(np.searchsorted(steps, at * steps[-1], side="right"))
    return min(chosen, int(np.flatnonzero(weights)[-1]))  # rounding must not reach a pair that does not occur


def _entropy(p: Floats) -> float:
    some = p[p > 0]
    return float(-(some * np.log2(some)).sum())
