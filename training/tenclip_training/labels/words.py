"""Words of labels and tags: one spelling for letters, and what is left out.

Tags and labels are compared in one form: Unicode's NFKC and casefold, letters and digits of any script alone. So
`#CandleBurning`, `candle_burning` and `ｃａｎｄｌｅburning🔥` are the same tag.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Articles, prepositions, conjunctions and possessives. Negations (not, without) and the particles of phrasal verbs
# (up, down, off, out) tell labels apart, so they are none.
FUNCTION_WORDS: Final = frozenset(
    (
        *("a", "an", "the", "of", "in", "on", "at", "to", "with", "for", "from", "by", "into", "onto", "as", "and"),
        *("or", "is", "are", "my", "your", "his", "her", "its", "their", "our", "someone", "something", "some"),
    )
)

_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# What stands between tags, as the inside of a character class that Python and RE2 (DuckDB) read alike but for blanks.
HASHES: Final = "#\uff03\ufe5f"
SEPARATORS: Final = f",;|\uff0c\u3001\uff1b\uff5c{HASHES}"
_BETWEEN_TAGS = re.compile(rf"[\s{SEPARATORS}]+")
_APOSTROPHES = re.compile("['\u2019\u02bc]")


def canonical_tag(text: str, *, fold_accents: bool = False) -> str:
    """One tag as it is compared: letters and digits in lower case; "" where it has none.

    fold_accents: write accented Latin letters without their marks.

    >>> canonical_tag("#Candle_Burning🔥")
    'candleburning'
    """
    letters = _letters(_folded(text, fold_accents))
    # Marks join the letters that now stand before them.
    return letters if letters.isascii() else _folded(letters, fold_accents)


def canonical_tags(cell: str, *, fold_accents: bool = False) -> tuple[str, ...]:
    """The tags in a text, in order, each once. Blanks, `#`, `,`, `;` and `|` stand between tags.

    >>> canonical_tags("#Burning#Candle, so_cozy ❤ #CANDLE")
    ('burning', 'candle', 'socozy')
    """
    pieces = _BETWEEN_TAGS.split(cell)
    return tuple(dict.fromkeys(tag for piece in pieces if (tag := canonical_tag(piece, fold_accents=fold_accents))))


def split_words(label: str) -> tuple[str, ...]:
    """The words of a label in order, in the spelling of `canonical_tag`; () where it has none.

    A label without blanks and underscores may be written as ApplyEyeMakeup (UCF-101). Parentheses and hyphens separate
    words; an apostrophe does not.

    >>> split_words("passing American football (not in game)")
    ('passing', 'american', 'football', 'not', 'in', 'game')
    >>> split_words("ApplyEyeMakeup")
    ('apply', 'eye', 'makeup')
    """
    text = unicodedata.normalize("NFKC", label)
    if not re.search(r"[\s_]", text.strip()):
        text = _CAMEL_CASE.sub(" ", text)
    text = _folded(_APOSTROPHES.sub("", text), False)
    return tuple("".join(c if _is_letter(c) else " " for c in text).split())


def _folded(text: str, fold_accents: bool) -> str:
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _without_accents(text) if fold_accents else text


def _without_accents(text: str) -> str:
    """Without the marks of Latin letters; those of other scripts are letters of their own."""
    kept: list[str] = []
    for character in unicodedata.normalize("NFD", text):
        if not (unicodedata.combining(character) and kept and kept[-1].isascii() and kept[-1].isalnum()):
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def _letters(text: str) -> str:
    return text if text.isascii() and text.isalnum() else "".join(filter(_is_letter, text))


def _is_letter(character: str) -> bool:
    # Marks (Mn, Mc) are the vowels of many scripts; the selectors of emoji are marks, too, and no letters.
    return character.isalnum() or (
        unicodedata.category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"
    )
