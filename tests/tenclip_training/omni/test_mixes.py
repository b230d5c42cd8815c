"""Sets of equal size of one source and of several: sources are all that differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.samples import Sample
from tenclip_training.omni.mixes import Mixes, mix_sources, read_sources, shares_of
from tenclip_training.omni.web_files import WebFiles
from tests.tenclip_training.omni.colors import write_images


def web_of(**sources: dict[str, int]) -> WebFiles:
    """Files by source and class."""
    rows = [
        (Sample(path=Path(f"{source}/{label}-{i}.jpg"), name=f"{source}/{label}-{i}.jpg", labels=(label,)), source)
        for source, counts in sources.items()
        for label, count in counts.items()
        for i in range(count)
    ]
    return WebFiles(samples=tuple(s for s, _ in rows), sources=tuple(source for _, source in rows))


def labels_of(mixes: Mixes, name: str) -> Counter[str]:
    return Counter(sample.labels[0] for sample in mixes.sets[name])


counts = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9), min_size=1)


@given(st.lists(counts, min_size=2, max_size=4), st.integers(0, 3), st.none() | st.integers(1, 30))
def test_every_set_has_the_same_classes_and_a_mixture_is_parts_of_the_others(
    sources: list[dict[str, int]], seed: int, size: int | None
) -> None:
    web = web_of(**{f"s{i}": of_class for i, of_class in enumerate(sources)})
    common = set.intersection(*(set(of_class) for of_class in sources))
    if not common:
        with pytest.raises(DatasetError, match="no class in common"):
            mix_sources(web, seed=seed, size=size)
        return
    mixes = mix_sources(web, seed=seed, size=size)
    possible = {label: min(of_class[label] for of_class in sources) for label in common}
    assert mixes.size == min(size or 100, sum(possible.values()))
    assert [*mixes.sets] == [*web.source_names, "mixed"]
    for name in mixes.sets:
        assert labels_of(mixes, name) == mixes.classes
        assert len({sample.key for sample in mixes.sets[name]}) == mixes.size
    for name in web.source_names:
        own = {sample.key for sample in mixes.sets[name]}
        assert all(key.startswith(f"{name}/") for key in own)
        mixed = {s.key for s in mixes.sets["mixed"] if s.key.startswith(f"{name}/")}
        assert mixed <= own
        assert len(mixed) == mixes.shares["mixed"].get(name, 0)
        assert len(mixed) < mixes.size / len(sources) + 1
    assert set(mixes.left_out) == {label for of_class in sources for label in of_class} - common


@given(st.lists(st.integers(0, 20), max_size=8), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_two_sources_are_at_the_ratio_to_one_file(counts: list[int], ratio: tuple[int, int]) -> None:
    shares = shares_of(counts, {"a": ratio[0], "b": ratio[1]})
    assert [sum(share.values()) for share in shares] == counts
    of_first = sum(share["a"] for share in shares)
    assert abs(of_first - sum(counts) * ratio[0] / sum(ratio)) < 1


def test_several_ratios_replace_files_of_one_source_by_the_others() -> None:
    web = web_of(google={"run": 8, "jump": 4}, social={"run": 20, "jump": 5, "swim": 3})
    mixes = mix_sources(web, ratios=[(3, 1), (1, 1), (1, 3)])
    assert mixes.to_dict()["sets"] == {
        "google": {"google": 12},
        "social": {"social": 12},
        "mixed-3-1": {"google": 9, "social": 3},
        "mixed-1-1": {"google": 6, "social": 6},
        "mixed-1-3": {"google": 3, "social": 9},
    }
    assert mixes.left_out == ("swim",)
    of_google = [
        {s.key for s in mixes.sets[f"mixed-{r}"] if s.name.startswith("google")} for r in ("1-3", "1-1", "3-1")
    ]
    assert of_google[0] < of_google[1] < of_google[2]
    other = mix_sources(web, seed=1)
    assert {s.key for s in other.sets["social"]} != {s.key for s in mixes.sets["social"]}


def test_what_cannot_be_mixed() -> None:
    with pytest.raises(DatasetError, match="all files are of the source 'google'"):
        mix_sources(web_of(google={"run": 3}))
    for ratio in ((1.0,), (1.0, 0.0)):
        with pytest.raises(InvalidRequest, match="needs a number above 0 for each of the sources a, b"):
            mix_sources(web_of(a={"run": 1}, b={"run": 1}), ratios=[ratio])
    for name in ("../a", "mixed", "", ".hidden"):
        with pytest.raises(InvalidRequest, match="cannot be the name of a manifest"):
            mix_sources(web_of(**{name: {"run": 1}, "b": {"run": 1}}))


def test_a_file_of_several_manifests_counts_for_the_first(tmp_path: Path) -> None:
    first = write_images(tmp_path / "a", [("red", "red", "google"), ("red", "blue", "social"), ("blue", "blue", "")])
    second = tmp_path / "more.csv"
    second.write_text("path,label\n" + "".join(f"a/images/00{i}.png,red\n" for i in range(2)))
    web = read_sources([first, second])
    assert web.sources == ("google", "social", "web")
    assert len(web.samples) == 3
    assert web.notes[-1] == "2 files are in several manifests, and count for the first"
