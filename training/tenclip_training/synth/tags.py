"""Hashtags as people would write them: the true one, its synonyms, wrong ones and chatter.

`SYNONYMS[class][0]` is the canonical tag. Synonyms include inflections (#zoomed, #zooming), which a lemmatiser can
fold, and words that only a thesaurus relates. A pair of verb and noun is tagged by both in one word, in either order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tenclip_training.synth.noise import NoisyTags

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "move_left": ("#moveleft", "#movingleft", "#movesleft", "#leftward"),
    "move_right": ("#moveright", "#movingright", "#movesright", "#rightward"),
    "move_up": ("#moveup", "#movingup", "#rising", "#upward"),
    "move_down": ("#movedown", "#movingdown", "#falling", "#downward"),
    "rotate_clockwise": ("#rotateclockwise", "#rotatingclockwise", "#clockwise", "#spinright"),
    "rotate_counterclockwise": ("#rotatecounterclockwise", "#counterclockwise", "#anticlockwise", "#spinleft"),
    "zoom_in": ("#zoomin", "#zoomingin", "#zoomedin", "#growing"),
    "zoom_out": ("#zoomout", "#zoomingout", "#zoomedout", "#shrinking"),
    "swing_horizontal": ("#swinghorizontal", "#swingingsideways", "#sideways", "#backandforth"),
    "swing_vertical": ("#swingvertical", "#swingingvertically", "#bobbing", "#upanddown"),
    "circle_clockwise": ("#circleclockwise", "#circlingclockwise", "#orbitright"),
    "circle_counterclockwise": ("#circlecounterclockwise", "#circlinganticlockwise", "#orbitleft"),
    "shake": ("#shake", "#shaking", "#shakes", "#tremble"),
    "bounce": ("#bounce", "#bouncing", "#bounced", "#hopping"),
    "pulse": ("#pulse", "#pulsing", "#pulsating", "#throbbing"),
    "wobble": ("#wobble", "#wobbling", "#wobbly", "#rocking"),
}
# Most used first; drawn with weights 1/rank, as real tags are.
UNRELATED: Final[tuple[str, ...]] = (
    *("#love", "#happy", "#fun", "#weekend", "#friends", "#summer", "#music", "#sunday", "#art", "#nofilter"),
    *("#home", "#coffee", "#throwback", "#family", "#mood", "#city", "#goodvibes", "#dog", "#colours", "#monday"),
    *("#design", "#holiday", "#rain", "#garden", "#breakfast", "#train", "#window", "#analog", "#tuesday", "#lamp"),
)


def tags_of(label: str) -> tuple[str, ...]:
    """The tags of a verb, a noun or a pair, the canonical one first.

    >>> tags_of("striped_disc")
    ('#stripeddisc', '#stripeddiscs', '#discstriped')
    >>> tags_of("shake-striped_disc")[:3]
    ('#shakestripeddisc', '#stripeddiscshake', '#shakestripeddiscs')
    """
    verb, _, noun = label.rpartition("-")
    if verb:
        pairs = [(v[1:], n[1:]) for v in SYNONYMS[verb][:2] for n in tags_of(noun)[:2]]
        return tuple(f"#{tag}" for v, n in pairs for tag in (v + n, n + v))
    if label in SYNONYMS:
        return SYNONYMS[label]
    adjective, _, thing = label.partition("_")
    return (f"#{adjective}{thing}", f"#{adjective}{thing}s", f"#{thing}{adjective}")


def tag_classes(classes: Sequence[str]) -> dict[str, str]:
    """Every tag that names one of `classes`, and which."""
    return {tag: name for name in classes for tag in tags_of(name)}


def draw_tags(label: str, classes: Sequence[str], noise: NoisyTags, rng: np.random.Generator) -> tuple[str, ...]:
    """The tags of one video of class `label`, in no order, at least one, none twice."""
    tags: list[str] = []
    if rng.random() >= noise.missing:
        tags.append(_spell(label, noise, rng))
    others = [c for c in classes if c != label]
    if rng.random() < noise.wrong and others:
        tags.append(_spell(others[rng.integers(len(others))], noise, rng))
    weights = 1 / np.arange(1, len(UNRELATED) + 1)
    count = min(int(rng.poisson(noise.unrelated)), len(UNRELATED))
    if not tags:
        count = max(count, 1)
    chatter = rng.choice(len(UNRELATED), size=count, replace=False, p=weights / weights.sum())
    tags += [UNRELATED[i] for i in chatter]
    return tuple(tags[i] for i in rng.permutation(len(tags)))


def _spell(label: str, noise: NoisyTags, rng: np.random.Generator) -> str:
    canonical, *synonyms = tags_of(label)
    return synonyms[rng.integers(len(synonyms))] if rng.random() < noise.synonym else canonical
