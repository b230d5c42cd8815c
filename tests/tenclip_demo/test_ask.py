from __future__ import annotations

from pathlib import Path

from tenclip_data.manifest import Manifest, Sample
from tenclip_demo.ask import MOST_CARDS, WRONG_CARDS, choose_cards
from tenclip_demo.served import Answer


def manifest(*labels: str) -> Manifest:
    samples = tuple(
        Sample(path=Path(f"{i}.mp4"), name=f"{i}.mp4", labels=(label,), split="test", line=i + 1)
        for i, label in enumerate(labels)
    )
    return Manifest(source=Path("list.csv"), samples=samples, labels=tuple(sorted(set(labels))))


def answers(*labels: str | None) -> list[Answer]:
    """One for each video; None: the server refused it."""
    return [
        Answer(path=Path(f"{i}.mp4"), label=label, seconds=0.1, timings={})
        for i, label in enumerate(labels)
        if label is not None
    ]


def chosen(test: Manifest, given: list[Answer]) -> list[str]:
    return [sample.path.stem for sample in choose_cards(test, given)]


def test_the_first_of_each_class_in_the_order_of_classes_then_the_wrong_ones() -> None:
    test = manifest("b", "b", "a", "a", "b")
    assert chosen(test, answers("b", "a", "a", "b", "b")) == ["2", "0", "1", "3"]


def test_a_video_without_an_answer_has_no_card() -> None:
    assert chosen(manifest("a", "a", "b"), answers(None, "a", None)) == ["1"]


def test_no_more_than_a_page_takes() -> None:
    many = manifest(*(f"{i:02d}" for i in range(30)), *["00"] * 9)
    assert len(chosen(many, answers(*["wrong"] * 39))) == MOST_CARDS + WRONG_CARDS
