"""Forms of English words: lemmas for labels, and the inflections of verbs and nouns that people tag.

Lemmas are those of lemminflect, which is offline and works by part of speech: "burning" is "burn", not itself. A
stemmer would give "candl", which nobody tags. Words that its dictionary lacks keep their form, except for words in
-ing ("beekeeping" gives "beekeep").
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import lemminflect

from tenclip_training.labels.words import FUNCTION_WORDS

_SHORTEST_UNKNOWN_GERUND = 7  # letters


@functools.lru_cache(maxsize=65536)
def lemma(word: str) -> str:
    """The lemma of a word of a label: of a verb for words in -ing and words that are no nouns, else of a noun.

    >>> [lemma(w) for w in ("burning", "candles", "fish", "caught")]
    ['burn', 'candle', 'fish', 'catch']
    """
    if word in FUNCTION_WORDS or not word.isascii() or not word.isalpha():
        return word
    known = lemminflect.getAllLemmas(word)
    if word.endswith("ing"):
        return str(known["VERB"][0]) if "VERB" in known else _unknown_gerund(word)
    return next((str(known[kind][0]) for kind in ("NOUN", "VERB") if kind in known), word)


def word_forms(word: str) -> tuple[str, ...]:
    """A word as it is and its lemma, where that is another one (IG-65M 3.1).

    >>> word_forms("catching")
    ('catching', 'catch')
    """
    return tuple(dict.fromkeys((word, lemma(word))))


def verb_forms(words: Sequence[str]) -> tuple[str, ...]:
    """What a verb is tagged as, joined: lemma, -ing form, and as it is written. The lemma comes first.

    Of several words ("pick up") the first is inflected.

    >>> verb_forms(["burning"])
    ('burn', 'burning')
    >>> verb_forms(["pick", "up"])
    ('pickup', 'pickingup')
    """
    base, rest = _verb_lemma(words[0]), "".join(words[1:])
    gerunds = _inflected(base, "VBG") or (base,)
    return tuple(dict.fromkeys(form + rest for form in (base, *gerunds, words[0])))


def noun_forms(words: Sequence[str]) -> tuple[str, ...]:
    """What a noun is tagged as, joined: singular, plural, and as it is written. The singular comes first.

    Of several words ("ice cream") the last is inflected.

    >>> noun_forms(["candle"])
    ('candle', 'candles')
    """
    start, base = "".join(words[:-1]), _noun_lemma(words[-1])
    return tuple(dict.fromkeys(start + form for form in (base, *_inflected(base, "NNS"), words[-1])))


def verb_lemma(words: Sequence[str]) -> str:
    """The canonical form of a verb, its words joined by blanks: "picking up" gives "pick up"."""
    return " ".join((_verb_lemma(words[0]), *words[1:]))


def noun_lemma(words: Sequence[str]) -> str:
    """The canonical form of a noun, its words joined by blanks: "ice creams" gives "ice cream"."""
    return " ".join((*words[:-1], _noun_lemma(words[-1])))


def _verb_lemma(word: str) -> str:
    known = lemminflect.getAllLemmas(word, upos="VERB") if word.isascii() and word.isalpha() else {}
    if known:
        return str(known["VERB"][0])
    return _unknown_gerund(word) if word.endswith("ing") else word


def _noun_lemma(word: str) -> str:
    known = lemminflect.getAllLemmas(word, upos="NOUN") if word.isascii() and word.isalpha() else {}
    return str(known["NOUN"][0]) if known else word


def _inflected(word: str, tag: str) -> tuple[str, ...]:
    """Inflections; for words that the dictionary lacks those of lemminflect's rules. () where no rule is for them."""
    if not (word.isascii() and word.isalpha()):
        return ()
    return tuple(str(form) for form in lemminflect.getInflection(word, tag=tag))


def _unknown_gerund(word: str) -> str:
    """The verb within a word in -ing that the dictionary has as no verb: "beekeeping"; not within "thing"."""
    if len(word) < _SHORTEST_UNKNOWN_GERUND:
        return word
    return str(lemminflect.getAllLemmasOOV(word, upos="VERB").get("VERB", (word,))[0])
