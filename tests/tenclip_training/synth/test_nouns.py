"""Nouns and the joint table: its formula, what a noun then tells of the verb, and that frames carry just that."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tenclip_training.synth import CLASSES, NOUNS, Association, SynthConfig, VideoSpec, joint_table, plan_videos, render
from tenclip_training.synth.nouns import NOUN_LOOKS, noun_of, pair_name, zipf_weights
from tenclip_training.synth.scene import SHAPES, TEXTURES

Floats = NDArray[np.float64]


def test_nouns_are_every_shape_with_every_texture() -> None:
    assert len(NOUNS) == 16
    assert set(NOUN_LOOKS.values()) == {(s, t) for s in SHAPES for t in TEXTURES}
    assert all(noun_of(*NOUN_LOOKS[noun]) == noun for noun in NOUNS)


@pytest.mark.parametrize("first", range(0, 16, 4))
def test_every_four_nouns_have_each_shape_and_each_texture(first: int) -> None:
    looks = [NOUN_LOOKS[noun] for noun in NOUNS[first : first + 4]]
    assert {shape for shape, _ in looks} == set(SHAPES)
    assert {texture for _, texture in looks} == set(TEXTURES)


@pytest.mark.parametrize(
    ("overlap", "bits", "accuracy"),
    # 8 verbs with 2 of 16 nouns each. At .5 a noun has its verb in 9/16 and each other one in 1/16:
    # 3 bits - H(9/16, 7 x 1/16) = 3 - (9/16 log2(16/9) + 7/16 * 4).
    [(0.0, 0.0, 1 / 8), (0.5, 3 - (9 / 16 * np.log2(16 / 9) + 7 / 4), 9 / 16), (1.0, 3.0, 1.0)],
)
def test_worked_overlaps(overlap: float, bits: float, accuracy: float) -> None:
    found = joint_table(CLASSES[:8], NOUNS, overlap=overlap).association()
    assert found.mutual_information == pytest.approx(bits, abs=1e-12)
    assert found.noun_only_accuracy == pytest.approx(accuracy)
    assert found.verb_entropy == pytest.approx(3.0)
    assert found.chance == pytest.approx(1 / 8)


@given(st.integers(2, 16), st.integers(1, 16), st.floats(0, 1), st.floats(0, 3))
def test_tables_are_distributions_with_the_frequencies_asked_for(v: int, n: int, overlap: float, zipf: float) -> None:
    table = joint_table(CLASSES[:v], NOUNS[:n], overlap=overlap, zipf=zipf)
    assert table.probability.min() >= 0
    assert table.probability.sum() == pytest.approx(1)
    assert np.allclose(table.probability.sum(axis=1), zipf_weights(v, zipf))
    told = table.association()
    assert 0 <= told.mutual_information <= told.verb_entropy + 1e-9
    assert told.chance - 1e-9 <= told.noun_only_accuracy <= 1 + 1e-9


@given(st.integers(2, 16), st.integers(1, 16), st.floats(0, 3))
def test_without_overlap_a_noun_tells_nothing(v: int, n: int, zipf: float) -> None:
    told = joint_table(CLASSES[:v], NOUNS[:n], overlap=0, zipf=zipf).association()
    assert told.mutual_information == pytest.approx(0, abs=1e-9)
    assert told.noun_only_accuracy == pytest.approx(told.chance)


@given(st.integers(2, 16), st.integers(0, 14), st.floats(0, 3))
def test_with_full_overlap_a_noun_tells_the_verb(v: int, more: int, zipf: float) -> None:
    n = min(16, v + more)
    told = joint_table(CLASSES[:v], NOUNS[:n], overlap=1, zipf=zipf).association()
    assert told.mutual_information == pytest.approx(told.verb_entropy)
    assert told.noun_only_accuracy == pytest.approx(1)


def test_fewer_nouns_than_verbs_tell_a_group_of_verbs() -> None:
    table = joint_table(CLASSES[:4], NOUNS[:2], overlap=1)
    assert table.probability.tolist() == [[0.25, 0], [0, 0.25], [0.25, 0], [0, 0.25]]
    assert table.association().mutual_information == pytest.approx(1.0)
    assert table.association().noun_only_accuracy == pytest.approx(0.5)


def test_quantiles_never_reach_a_pair_that_does_not_occur() -> None:
    table = joint_table(CLASSES[:2], NOUNS[:4], overlap=1)
    assert {table.noun_given(CLASSES[0], at) for at in np.linspace(0, 1, 101)} == {NOUNS[0], NOUNS[2]}
    assert {table.verb_given(NOUNS[3], at) for at in (0.0, 0.5, 1.0)} == {CLASSES[1]}


@given(st.sets(st.integers(0, 31), min_size=1), st.floats(0, 0.9), st.floats(0, 2))
def test_chosen_pairs_keep_their_frequencies_among_each_other(chosen: set[int], overlap: float, zipf: float) -> None:
    whole = joint_table(CLASSES[:4], NOUNS[:8], overlap=overlap, zipf=zipf)
    pairs = [pair for i, pair in enumerate(whole.pairs()) if i in chosen]
    part = whole.of_pairs([pair_name(*pair) for pair in pairs])
    total = sum(whole.pairs()[pair] for pair in pairs)
    assert part.pairs() == pytest.approx({pair: whole.pairs()[pair] / total for pair in pairs})


def test_a_set_of_chosen_pairs_shows_them_and_keeps_each_pairs_videos() -> None:
    pairs = (f"{CLASSES[2]}-{NOUNS[5]}", f"{CLASSES[0]}-{NOUNS[1]}")
    some = specs_of(0.0, label="pair", pairs=pairs, total=20, splits=(("train", 1.0),))
    assert sorted({s.pair for s in some}) == sorted(pairs)
    assert [s.pair for s in some].count(pairs[0]) == 10
    everything = {s.path: s for s in specs_of(0.0, label="pair", total=128 * 10, splits=(("train", 1.0),))}
    assert all(everything[s.path] == s for s in some)


def test_pairs_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match=r"no pair walk-dog; there are move_left-"):
        SynthConfig(label="pair", pairs=("walk-dog",))
    with pytest.raises(ValueError, match="label is 'verb'"):
        SynthConfig(pairs=("move_left-striped_disc",))
    with pytest.raises(ValueError, match="no pair"):  # a noun of the other set
        SynthConfig(label="pair", pairs=(f"move_left-{NOUNS[-1]}",), held_out_nouns=4)


def test_an_association_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Association.of(np.zeros((2, 2)))


# -- in what is planned --


def specs_of(overlap: float, **options: object) -> list[VideoSpec]:
    return plan_videos(SynthConfig(overlap=overlap, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 1.0])
def test_the_planned_nouns_have_the_tables_association(overlap: float) -> None:
    specs = specs_of(overlap, num_classes=4, nouns=NOUNS[:8], videos_per_class=250)
    table = np.zeros((4, 8))
    for spec in specs:
        table[CLASSES.index(spec.verb), NOUNS.index(spec.noun)] += 1
    found, wanted = Association.of(table), joint_table(CLASSES[:4], NOUNS[:8], overlap=overlap).association()
    assert found.noun_only_accuracy == pytest.approx(wanted.noun_only_accuracy, abs=0.02)
    assert found.mutual_information == pytest.approx(wanted.mutual_information, abs=0.02)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_split_has_the_tables_nouns(split: str) -> None:
    specs = [s for s in specs_of(0.5, num_classes=2, nouns=NOUNS[:4], videos_per_class=40) if s.split == split]
    own = sum(NOUNS.index(s.noun) % 2 == CLASSES.index(s.verb) for s in specs)
    assert own / len(specs) == pytest.approx(0.75, abs=0.13)


def test_a_video_keeps_its_noun_when_there_are_more_videos() -> None:
    few = {s.path: s.noun for s in specs_of(0.5, videos_per_class=5, splits=(("train", 1.0),))}
    many = {s.path: s.noun for s in specs_of(0.5, videos_per_class=9, splits=(("train", 1.0),))}
    assert few.items() <= many.items()


def test_held_out_nouns_are_in_the_other_set_alone() -> None:
    kept = {s.noun for s in specs_of(0.5, held_out_nouns=4, videos_per_class=60)}
    apart = {s.noun for s in specs_of(0.0, held_out_nouns=4, noun_set="held-out", videos_per_class=60)}
    assert kept == set(NOUNS[:12])
    assert apart == set(NOUNS[12:])


@pytest.mark.parametrize("label", ["verb", "noun", "pair"])
def test_the_label_is_the_column_asked_for(label: str) -> None:
    config = SynthConfig(label=label, num_classes=3, nouns=NOUNS[:3], overlap=0.5, videos_per_class=4)  # type: ignore[arg-type]
    specs = plan_videos(config)
    assert all(s.label == getattr(s, label) == s.true_label for s in specs)
    assert {s.label for s in specs} == set(config.class_names)
    assert len(config.class_names) == {"verb": 3, "noun": 3, "pair": 9}[label]


def test_pairs_that_do_not_occur_are_no_classes() -> None:
    config = SynthConfig(label="pair", num_classes=2, nouns=NOUNS[:4], overlap=1, videos_per_class=4)
    assert config.class_names == (
        *("move_left-striped_disc", "move_left-dotted_triangle"),
        *("move_right-checkered_square", "move_right-marbled_star"),
    )


def test_noun_labels_have_verbs_of_the_table() -> None:
    specs = specs_of(1.0, label="noun", num_classes=2, nouns=NOUNS[:4], videos_per_class=6)
    assert all(CLASSES.index(s.verb) == NOUNS.index(s.noun) % 2 for s in specs)


# -- in frames --


def features(frame: NDArray[np.uint8]) -> Floats:
    """Histograms of gradients: magnitudes, and directions without regard to how the object is turned."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    found = [np.histogram(gray, bins=12, range=(0, 255))[0]]
    for scale in (1.0, 0.5):
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        dx, dy = cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)
        steepness = np.hypot(dx, dy)
        directions = np.histogram(np.arctan2(dy, dx), bins=16, range=(-np.pi, np.pi), weights=steepness)[0]
        found += [np.abs(np.fft.rfft(directions)), np.histogram(steepness, bins=12, range=(0, 900))[0]]
    return np.asarray(np.log1p(np.concatenate(found)), np.float64)


def accuracy_of_a_linear_probe(specs: list[VideoSpec], inputs: Floats, target: str) -> float:
    train = np.array([s.split == "train" for s in specs])
    targets = np.array([getattr(s, target) for s in specs])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=500))
    return float(probe.fit(inputs[train], targets[train]).score(inputs[~train], targets[~train]))


@pytest.fixture(scope="module")
def frames() -> dict[float, tuple[list[VideoSpec], Floats]]:
    found = {}
    for overlap in (0.0, 0.5, 1.0):
        config = SynthConfig(
            num_classes=2,
            nouns=("striped_disc", "marbled_star"),
            overlap=overlap,
            kind="images",
            total=240,
            splits=(("train", 0.5), ("test", 0.5)),
            objects=(2, 2),
            clutter=0,
            width=64,
            height=48,
        )
        specs = plan_videos(config)
        found[overlap] = specs, np.stack([features(next(render(spec))) for spec in specs])
    return found


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_a_linear_probe_on_the_noun_is_as_good_as_the_table_says(
    frames: dict[float, tuple[list[VideoSpec], Floats]], overlap: float
) -> None:
    specs, _ = frames[overlap]
    one_hot = np.array([[s.noun == noun for noun in NOUNS] for s in specs], np.float64)
    assert accuracy_of_a_linear_probe(specs, one_hot, "verb") == pytest.approx(0.5 + overlap / 2, abs=0.03)


def test_a_linear_probe_on_a_frame_is_as_good_as_its_eye_for_nouns(
    frames: dict[float, tuple[list[VideoSpec], Floats]],
) -> None:
    sees = {overlap: accuracy_of_a_linear_probe(*found, "noun") for overlap, found in frames.items()}
    names = {overlap: accuracy_of_a_linear_probe(*found, "verb") for overlap, found in frames.items()}
    assert min(sees.values()) > 0.8
    for overlap, accuracy in names.items():
        # Its noun is right with probability `sees`; the verb follows from the right one as often as the table says.
        expected = 0.5 + overlap * (sees[overlap] - 0.5)
        assert accuracy == pytest.approx(expected, abs=0.12)
    assert names[0.0] < names[0.5] < 0.8 < names[1.0]
