from __future__ import annotations

from pathlib import Path

from tenclip_data.manifest import Manifest, Sample
from tenclip_demo.ask import HELD_OUT, MOST_CARDS, UNTRIMMED, WRONG_CARDS, _Wanted, choose_cards
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
        Answer(key=f"{i}.mp4", label=label, seconds=0.1, timings={})
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


def test_parts_of_one_video_are_judged_each_by_its_own_label() -> None:
    path = Path("long.mp4")
    rows = [("a", 0.0, 2.0), ("b", 2.0, None), ("a", 4.0, 5.0)]
    samples = tuple(
        Sample(path=path, name=path.name, labels=(label,), split="test", start_seconds=start, end_seconds=end)
        for label, start, end in rows
    )
    test = Manifest(source=Path("list.csv"), samples=samples, labels=("a", "b"))
    given = [Answer(key=s.key, label=s.labels[0], seconds=0.1, timings={}) for s in samples]
    assert choose_cards(test, given) == list(samples[:2]), "the first of each class, and none is wrong"
    assert [_Wanted.of_sample(s, HELD_OUT).name for s in samples] == [
        "long.mp4[0:2]", "long.mp4[2:]", "long.mp4[4:5]",
    ]  # fmt: skip
    assert _Wanted.of_sample(samples[0], HELD_OUT).part == (path, 0.0, 2.0)
    untrimmed = _Wanted.of_sample(samples[0], UNTRIMMED)
    assert (untrimmed.part.whole, untrimmed.interval) == (True, (0.0, 2.0)), "predicted whole, the action marked"
