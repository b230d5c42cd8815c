"""Noise of labels: hashtags as people write them, and what a search engine returns for a class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NoisyTags:
    """Noise of the hashtags beside the true label, as in weakly labelled social-media video (IG-65M, section 3.1).

    missing: probability that no tag of the true class is there. synonym: probability that a class's tag is written as
    one of its synonyms or inflections. wrong: probability of one more tag, of another class. unrelated: mean number of
    tags that name no class.
    """

    missing: float = 0.2
    synonym: float = 0.4
    wrong: float = 0.3
    unrelated: float = 2.0

    def __post_init__(self) -> None:
        for name in ("missing", "synonym", "wrong"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"noisy_tags.{name} is a probability, got {value}")
        require(0 <= self.unrelated <= 20, f"noisy_tags.unrelated must lie in 0-20, got {self.unrelated}")


@dataclass(frozen=True, kw_only=True)
class WebNoise:
    """Items that a search for a class finds although they do not show it (OmniSource, 3.4: it rejects 70-80%).

    wrong: share of items that show another class of the set than their label says. off_topic: share that shows none of
    its classes. Exact shares of the training split, independent of everything else; other splits are right.
    """

    wrong: float = 0.3
    off_topic: float = 0.3

    def __post_init__(self) -> None:
        for name in ("wrong", "off_topic"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"web.{name} is a share of the items, got {value}")
        require(
            self.wrong + self.off_topic <= 1 + 1e-9,
            f"web.wrong and web.off_topic are shares of the same items, got {self.wrong} and {self.off_topic}",
        )


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless `condition`."""
    if not condition:
        raise ValueError(message)
