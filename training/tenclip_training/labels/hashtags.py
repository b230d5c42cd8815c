"""Relevant hashtags: every way in which people may write a label as one tag (IG-65M section 3.1 and supplement)."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tenclip_api.errors import DatasetError
from tenclip_training.labels.forms import noun_forms, verb_forms, word_forms
from tenclip_training.labels.words import FUNCTION_WORDS, canonical_tag, split_words

# A label of six words with two forms each has 46,080 tags; Kinetics-400's median label has 4.
DEFAULT_MAX_TAGS = 5000
MAX_WORDS = 50
# Candidates that are looked at for each tag that is kept: words that share a form give the same tag again.
_CANDIDATES_PER_TAG = 20


@dataclass(frozen=True, kw_only=True)
class Hashtags:
    """The relevant hashtags of one label, sorted, without `#`.

    possible: orders times forms, before the same tag is counted once. capped: whether the cap left some out.
    """

    label: str
    tags: tuple[str, ...]
    possible: int
    capped: bool


def relevant_hashtags(label: str, *, max_tags: int = DEFAULT_MAX_TAGS) -> Hashtags:
    """Every order of the words of an action's label, each word as it is and as its lemma, joined (IG-65M 3.1).

    All of it twice where the label has function words: with all of them and with none. Where there are more than
    `max_tags`, those nearest to the label stay: its own order of words first, original forms before lemmas.
    Raises DatasetError for a label without words, or with more than 50.

    >>> relevant_hashtags("catching fish").tags
    ('catchfish', 'catchingfish', 'fishcatch', 'fishcatching')
    """
    words = _words_of(label)
    content = tuple(word for word in words if word not in FUNCTION_WORDS)
    variants = [words, content] if content and content != words else [words]
    candidates = itertools.chain.from_iterable(_round_robin([_joined_orders(v) for v in variants]))
    return _collect(label, candidates, possible=sum(map(_count_orders, variants)), max_tags=max_tags)


def verb_hashtags(verb: str) -> Hashtags:
    """The forms of a verb: lemma, -ing form and as written. Raises DatasetError for a label without words."""
    return _of_forms(verb, verb_forms(_words_of(verb)))


def noun_hashtags(noun: str) -> Hashtags:
    """The forms of a noun: singular, plural and as written. Raises DatasetError for a label without words."""
    return _of_forms(noun, noun_forms(_words_of(noun)))


def pair_hashtags(verb: str, noun: str) -> Hashtags:
    """Every form of the verb with every form of the noun, in both orders (IG-65M supplement, A.1).

    Raises DatasetError for a label without words.

    >>> pair_hashtags("burning", "candle").tags[:4]
    ('burncandle', 'burncandles', 'burningcandle', 'burningcandles')
    """
    verbs, nouns = verb_forms(_words_of(verb)), noun_forms(_words_of(noun))
    pairs = [joined for v, n in itertools.product(verbs, nouns) for joined in (v + n, n + v)]
    return _of_forms(f"{verb} {noun}", pairs)


def _words_of(label: str) -> tuple[str, ...]:
    words = split_words(label)
    if not words:
        raise DatasetError(f"label {label!r} is empty: a label needs a letter or a digit, such as 'catching a fish'")
    if len(words) > MAX_WORDS:
        raise DatasetError(f"label {label[:60]!r}... has {len(words)} words; a label has at most {MAX_WORDS}")
    return words


def _of_forms(label: str, forms: Sequence[str]) -> Hashtags:
    return Hashtags(label=label, tags=tuple(sorted(set(map(canonical_tag, forms)))), possible=len(forms), capped=False)


def _collect(label: str, candidates: Iterable[str], *, possible: int, max_tags: int) -> Hashtags:
    tags: set[str] = set()
    looked_at = 0
    for tag in itertools.islice(candidates, max_tags * _CANDIDATES_PER_TAG):
        looked_at += 1
        tags.add(canonical_tag(tag))
        if len(tags) == max_tags:
            break
    return Hashtags(label=label, tags=tuple(sorted(tags)), possible=possible, capped=looked_at < possible)


def _joined_orders(words: Sequence[str]) -> Iterator[str]:
    for order in _distinct_permutations(words):
        yield from map("".join, itertools.product(*map(word_forms, order)))


def _count_orders(words: Sequence[str]) -> int:
    repeats = math.prod(math.factorial(n) for n in Counter(words).values())
    return math.factorial(len(words)) // repeats * math.prod(len(word_forms(w)) for w in words)


def _distinct_permutations(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Orders of the words, the given one first; a word that stands twice gives no order twice."""
    if not words:
        yield ()
    for i, word in enumerate(words):
        if word not in words[:i]:
            yield from ((word, *rest) for rest in _distinct_permutations([*words[:i], *words[i + 1 :]]))


def _round_robin(variants: Sequence[Iterator[str]]) -> Iterator[tuple[str, ...]]:
    """One tag of each variant at a time, so that a cap takes from all of them alike."""
    for group in itertools.zip_longest(*variants):
        yield tuple(tag for tag in group if tag is not None)
