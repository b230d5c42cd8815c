"""Joint training of a target and auxiliary sources (OmniSource, sections 3.2 and 3.6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_training.data.joint import JointDataset, JointSampler
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.dry_run import plan_run
from tenclip_training.runs.grid import search
from tenclip_training.runs.joint import JointMethod, JointObjective, batch_sizes, method_of
from tenclip_training.runs.method import Method
from tenclip_training.runs.objectives import Classification, Inputs, MultiLabel
from tenclip_training.runs.train import train
from tests.tenclip_training.runs.test_distributed import losses_of, same_parameters, torchrun
from tests.tenclip_training.runs.test_grid import points_of

# -- the loss --


def inputs(sources: list[int], num_classes: int = 3) -> Inputs:
    """Clip i is of class i modulo 3, and i + 1 everywhere."""
    targets = F.one_hot(torch.arange(len(sources)) % num_classes, num_classes).float()
    clips = torch.arange(1.0, len(sources) + 1).reshape(-1, 1, 1, 1, 1).expand(-1, 3, 1, 2, 2)
    return Inputs(clips=clips, targets=targets, sources=torch.tensor(sources))


class Linear:
    """Logits that are linear in the mean of the clip, and the clips that were seen."""

    def __init__(self) -> None:
        self.weight = torch.tensor([[0.3, -0.1, 0.2]], requires_grad=True)
        self.seen = torch.empty(0)

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = clips.mean((1, 2, 3, 4))
        logits = self.seen[:, None] @ self.weight
        return logits[..., None], logits


def test_16_clips_of_loss_1_and_8_of_loss_2_are_four_thirds() -> None:
    """Eq. 1 is their sum, 32; the mean over the union is that by 24."""

    class Given:
        def __call__(self, inputs: Inputs, network: Any) -> tuple[Tensor, Tensor]:
            logits, _ = network(inputs.clips)
            return logits.mean(), torch.tensor(float(len(logits)))

    def network(clips: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.tensor([1.0] * 16 + [2.0] * 8)
        return losses[:, None, None], losses[:, None]

    objective = JointObjective(Given(), 2)
    loss, correct = objective(inputs([0] * 16 + [1] * 8), network)
    assert float(loss) == pytest.approx(4 / 3)
    assert float(correct) == 24
    assert float(loss) * 24 == pytest.approx(32)
    assert objective.totals.tolist() == [[16.0, 16.0, 16.0], [16.0, 8.0, 8.0]]


@pytest.mark.parametrize("base", [Classification(label_smoothing=0.1), MultiLabel(with_softmax=True)])
def test_the_gradient_of_the_union_is_that_of_the_concatenation(base: Any) -> None:
    given = inputs([0, 0, 0, 0, 1, 1, 2])
    union, plain = Linear(), Linear()
    loss, correct = JointObjective(base, 3)(given, union)
    expected, expected_correct = base(given, plain)
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(union.weight.grad, plain.weight.grad)
    assert float(correct) == float(expected_correct)


def test_a_source_without_clips_counts_nothing() -> None:
    objective = JointObjective(Classification(), 3)
    loss, _ = objective(inputs([0, 0, 2]), Linear())
    assert torch.isfinite(loss)
    assert objective.totals[1].tolist() == [0, 0, 0]
    objective.reset()
    assert objective.totals.sum() == 0


def test_cross_mixup_blends_auxiliary_clips_with_the_targets_and_leaves_these() -> None:
    given = inputs([0, 0, 0, 1, 1])
    network = Linear()
    torch.manual_seed(5)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    torch.manual_seed(5)
    loss, correct = JointObjective(Classification(), 2, cross_mixup=0.4)(given, network)
    expected = torch.tensor([1, 2, 3, share * 4 + (1 - share) * 1, share * 5 + (1 - share) * 2])
    torch.testing.assert_close(network.seen, expected)
    logits = expected[:, None] @ network.weight
    targets = given.targets.clone()
    targets[3] = share * given.targets[3] + (1 - share) * given.targets[0]
    targets[4] = share * given.targets[4] + (1 - share) * given.targets[1]
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets))
    best = logits.argmax(1)
    own, other = given.targets.argmax(1), torch.tensor([0, 1, 2, 0, 1])
    right = [float(best[i] == own[i]) for i in range(3)]
    right += [share * float(best[i] == own[i]) + (1 - share) * float(best[i] == other[i]) for i in (3, 4)]
    assert float(correct) == pytest.approx(sum(right))


def test_fewer_target_clips_are_taken_again_and_none_leave_the_others_alone() -> None:
    network = Linear()
    torch.manual_seed(1)
    JointObjective(Classification(), 2, cross_mixup=1.0)(inputs([0, 1, 1, 1]), network)
    share = (network.seen[1] - 1) / (2 - 1)
    torch.testing.assert_close(network.seen[2:], torch.stack([share * 3 + 1 - share, share * 4 + 1 - share]))
    JointObjective(Classification(), 2, cross_mixup=1.0)(inputs([1, 1]), network)
    assert network.seen.tolist() == [1, 2]


def test_mixup_blends_within_each_source() -> None:
    network = Linear()
    for seed in range(5):
        torch.manual_seed(seed)
        JointObjective(Classification(), 2, mixup=1.0)(inputs([0, 0, 1, 1, 1]), network)
        assert network.seen[:2].min() >= 1
        assert network.seen[:2].max() <= 2
        assert network.seen[2:].min() >= 3
        torch.testing.assert_close(network.seen[2:].sum(), torch.tensor(12.0))


# -- runs --


def table(path: Path, videos: Path, rows: slice, *, split: str = "train", rename: dict[str, str] | None = None) -> Path:
    """Some training videos of a manifest as another one."""
    lines = videos.read_text().splitlines()
    columns = lines[0].split(",")
    found = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    chosen = [r for r in found if r["split"] == "train"][rows]
    names = rename or {}
    text = [f"{videos.parent / r['path']},{names.get(r['label'], r['label'])},{split}" for r in chosen]
    path.write_text("\n".join(["path,label,split", *text]) + "\n")
    return path


@pytest.fixture
def joint_config(train_config: TrainConfig, validated_videos: Path, tmp_path: Path) -> TrainConfig:
    """Six steps of 4 target clips with 2 and 2 auxiliary ones; 5 and 3 files."""
    aux = (
        str(table(tmp_path / "web.csv", validated_videos, slice(0, 10, 2))),
        str(table(tmp_path / "clips.csv", validated_videos, slice(1, 7, 2))),
    )
    return train_config.changed(aux=aux, ratio=(2, 1, 1), epochs=2, val_every=2)


def history(out: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(out) / "history.jsonl").read_text().splitlines()]


def weights(out: str | Path) -> str:
    return load_checkpoint(Path(out) / "last.pt").weights_sha256


def test_a_run_says_loss_and_accuracy_of_each_source(joint_config: TrainConfig) -> None:
    notes: list[str] = []
    result = train(joint_config, on_note=notes.append)
    assert result.completed
    assert notes[-3] == "joint training of target, web, clips at 2:1:1, in each step"
    assert notes[-2] == "web: 5 files (0 of them images) of 2 of 2 classes, 6 clips an epoch, each file 1.2 times"
    for line in history(joint_config.out):
        facts = line["facts"]
        assert [facts[f"{name} clips"] for name in ("target", "web", "clips")] == [12, 6, 6]
        losses = sum(facts[f"{name} loss"] * facts[f"{name} clips"] for name in ("target", "web", "clips"))
        assert line["loss"] == pytest.approx(losses / 24)
        assert line["train_clips"] == 24
        right = sum(facts[f"{name} clip top-1"] * facts[f"{name} clips"] for name in ("target", "web", "clips"))
        assert line["train_clip_top1"] == pytest.approx(right / 24)


@pytest.mark.parametrize(
    "changes",
    [{"mixup": 0.4, "cross_mixup": 0.4, "aux_power": 0.2}, {"turns": "alternate", "aux_batch": (6, 3), "aux_cap": 2}],
)
def test_a_resumed_run_is_the_same_to_the_bit(
    joint_config: TrainConfig, changes: dict[str, Any], tmp_path: Path
) -> None:
    config = joint_config.changed(**changes)
    whole = config.changed(out=str(tmp_path / "whole"))
    train(whole)
    stopped = config.changed(out=str(tmp_path / "stopped"))
    assert not train(stopped, stop_after_steps=2).completed
    assert not train(stopped, resume=True, stop_after_steps=3).completed
    assert train(stopped, resume=True).completed
    assert weights(whole.out) == weights(stopped.out)
    one, two = ([{k: line[k] for k in ("loss", "facts")} for line in history(c.out)] for c in (whole, stopped))
    assert one == two


def test_alternate_steps_are_of_one_source_each(joint_config: TrainConfig) -> None:
    config = joint_config.changed(turns="alternate", aux_batch=(6, 3), epochs=2, val_every=2)
    assert batch_sizes(config) == (4, 6, 3)
    train(config)
    steps = [json.loads(line) for line in (Path(config.out) / "steps.jsonl").read_text().splitlines()]
    assert [s["clips"] for s in steps] == [4, 4, 6, 3, 4, 4, 6, 3] * 2
    assert history(config.out)[0]["facts"]["web clips"] == 12


def test_two_processes_learn_what_one_learns(joint_config: TrainConfig, tmp_path: Path) -> None:
    """Each has a micro-batch of every step: 2 clips of the target, 1 and 1 of the sources."""
    one = joint_config.changed(out=str(tmp_path / "one"), batch_size=2, accumulate=2)
    two = joint_config.changed(out=str(tmp_path / "two"), batch_size=2)
    train(one)
    code, said, errors = torchrun(tmp_path, [{"config": two.to_dict()}])
    assert code == 0, errors
    assert [s["completed"] for s in said] == [True, True]
    assert losses_of(two.out) == pytest.approx(losses_of(one.out), abs=1e-6)
    same_parameters(one.out, two.out)
    for a, b in zip(history(one.out), history(two.out), strict=True):
        assert a["facts"] == pytest.approx(b["facts"], abs=1e-6)


def test_the_target_is_drawn_as_without_others(joint_config: TrainConfig) -> None:
    method = method_of(joint_config)
    assert isinstance(method, JointMethod)
    splits = method.read_splits(joint_config)
    sampler = method.build_sampler(joint_config, splits.train, World())
    assert isinstance(sampler, JointSampler)
    alone = Method().build_sampler(joint_config.changed(aux=(), ratio=()), splits.train, World())
    ours = [d.draw for batch in sampler for d in batch if d.source == 0]
    assert ours == [draw for batch in alone for draw in batch]


def test_the_cache_is_shared_target_first(joint_config: TrainConfig) -> None:
    method = method_of(joint_config)
    splits = method.read_splits(joint_config)
    spec = joint_config.resolve_clip_spec()
    data = method.build_dataset(joint_config, splits.train, spec)
    assert isinstance(data, JointDataset)
    seen: list[tuple[int, int]] = []
    assert data.fill_cache(1 << 30, threads=1, progress=lambda *p: seen.append(p)) == []
    assert seen == [(i, 20) for i in range(1, 21)]
    bytes_of_target = data.sources[0].cached_bytes
    few = method.build_dataset(joint_config, splits.train, spec)
    assert isinstance(few, JointDataset)
    few.fill_cache(bytes_of_target, threads=1)
    assert [s.cached_bytes for s in few.sources] == [bytes_of_target, 0, 0]


def test_a_plan_names_the_sources(joint_config: TrainConfig) -> None:
    plan = plan_run(joint_config.changed(aux_power=0.2), world_size=2)
    assert plan.clips_per_step == 16
    assert any(note.startswith("web: 5 files") for note in plan.notes)


# -- what cannot be --


def test_labels_that_the_target_does_not_have_are_refused_by_name(
    joint_config: TrainConfig, validated_videos: Path, tmp_path: Path
) -> None:
    label = validated_videos.read_text().splitlines()[1].split(",")[1]
    table(tmp_path / "other.csv", validated_videos, slice(0, 4), rename={label: "juggling"})
    config = joint_config.changed(aux=(str(tmp_path / "other.csv"),), ratio=(2, 1))
    with pytest.raises(DatasetError, match=r"other.csv, line 2 .*'juggling' is not one of the 2 known ones"):
        train(config)
    assert not Path(config.out).exists()


@pytest.mark.parametrize("splits", [("val",), ("test",), ("val", "test"), ("test2", "unused")])
def test_held_out_videos_are_refused_as_auxiliary_ones(
    joint_config: TrainConfig, validated_videos: Path, tmp_path: Path, splits: tuple[str, ...]
) -> None:
    """Whether they are validated on or kept for a final result. `splits`: of the target's last videos, in turn."""
    lines = validated_videos.read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    for i, row in enumerate(row for row in rows if row["split"] == "val"):
        row["split"] = splits[i % len(splits)]
    target = tmp_path / "target.csv"
    text = "".join(f"{validated_videos.parent / r['path']},{r['label']},{r['split']}\n" for r in rows)
    target.write_text("path,label,split\n" + text)
    path = Path(joint_config.joint.aux[0])
    kept = path.read_text()
    config = joint_config.changed(manifest=str(target))
    for split in splits:
        leak = next(r for r in rows if r["split"] == split)
        path.write_text(f"{kept}{validated_videos.parent / leak['path']},{leak['label']},train\n")
        if split == "unused":
            plan_run(config)
            continue
        with pytest.raises(DatasetError, match=rf"web.csv: 1 of its files are .* holds out, .* of split '{split}'"):
            plan_run(config)
        with pytest.raises(DatasetError, match="holds out"):
            search(points_of(config, "lr=0.1,0.2"), tmp_path / "grid")
        assert not (tmp_path / "grid").exists()
        plan_run(config.changed(leaks="allow"))


def test_held_out_videos_may_be_warned_of(
    joint_config: TrainConfig, validated_videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    val = read_manifest(validated_videos).split("val").samples[0]
    path = Path(joint_config.joint.aux[0])
    path.write_text(f"{path.read_text()}{val.path},{val.labels[0]},train\n")
    with pytest.raises(DatasetError, match="1 of its files are videos that the target holds out"):
        train(joint_config)
    assert train(joint_config.changed(leaks="warn", epochs=1, warmup_epochs=0.0)).completed
    assert "1 of its files are videos that the target holds out" in caplog.text


def test_the_targets_own_manifest_is_no_auxiliary_source(joint_config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(joint_config.manifest)
    for name in (joint_config.manifest, str(tmp_path / "link.csv")):
        with pytest.raises(DatasetError, match="is the target's own manifest"):
            plan_run(joint_config.changed(aux=(joint_config.joint.aux[0], name)))


def test_images_need_to_be_asked_for(joint_config: TrainConfig, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (48, 36)).save(tmp_path / "x.png")
    path = Path(joint_config.joint.aux[0])
    label = path.read_text().splitlines()[1].split(",")[1]
    path.write_text(path.read_text() + f"{tmp_path / 'x.png'},{label},train\n")
    with pytest.raises(DatasetError, match="is a picture"):
        train(joint_config)
    assert train(joint_config.changed(images="replicate", epochs=1, warmup_epochs=0.0)).completed


def test_too_many_unreadable_files_of_a_source_end_the_run(joint_config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    path = Path(joint_config.joint.aux[1])
    label = path.read_text().splitlines()[1].split(",")[1]
    path.write_text(path.read_text() + f"{tmp_path / 'bad.mp4'},{label},train\n")
    with pytest.raises(DatasetError, match=r"1 of 4 videos of aux:clips could not be read, more than the 10% allowed"):
        train(joint_config.changed(max_failures=0.1))
    result = train(joint_config.changed(max_failures=0.5, out=str(tmp_path / "patient")))
    assert result.videos_failed == 0, "of the target"
    assert [f.split for f in result.failures] == ["aux:clips"]


def test_sources_that_changed_are_not_resumed(joint_config: TrainConfig) -> None:
    train(joint_config, stop_after_steps=1)
    path = Path(joint_config.joint.aux[0])
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(CheckpointError, match=r"web.csv: its files or labels changed since the run was begun"):
        train(joint_config, resume=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ratio": (2, 1)}, r"ratio 2:1 has 2 parts for the target and 2 sources"),
        ({"ratio": (3, 1, 1)}, r"batch_size and ratio: 4 clips of the target at 3:1:1 .*; take 3, 6, 9, \.\.\."),
        ({"aux_batch": (6, 3)}, "aux_batch is for turns 'alternate'"),
        ({"turns": "alternate", "aux_batch": (6,)}, "aux_batch has 1 numbers for 2 auxiliary sources"),
        ({"turns": "alternate", "cross_mixup": 0.2}, "cross_mixup blends clips of one step"),
        ({"aux": ("a.csv", "a.csv")}, "named twice"),
        ({"heads": ("verb", "noun")}, "heads: auxiliary sources have one label a file"),
        ({"aux_power": 1.5}, "aux_power must be from 0 to 1"),
        ({"segments": 3, "images": "translate-random"}, "with segments an image stays an image"),
    ],
)
def test_settings_that_cannot_be(joint_config: TrainConfig, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        joint_config.changed(**changes)


def test_settings_about_sources_that_are_not_named(train_config: TrainConfig) -> None:
    with pytest.raises(InvalidRequest, match=r"aux_power, cross_mixup: about auxiliary sources, and none is named"):
        train(train_config.changed(aux_power=0.0, cross_mixup=0.2))


def test_segments_are_for_networks_of_frames(train_config: TrainConfig) -> None:
    with pytest.raises(InvalidRequest, match=r"segments are single frames, and r2plus1d_10 looks over time"):
        train(train_config.changed(segments=3))
    frames = train_config.changed(segments=3, architecture="r2d_18")
    with pytest.raises(InvalidRequest, match=r"each is one frame, and the clips have 4; say --frames 1"):
        train(frames)
    result = train(frames.changed(num_frames=1, epochs=1, warmup_epochs=0.0, val_every=1, val_protocol="tsn-3"))
    assert result.completed
    saved = load_checkpoint(result.last)
    assert saved.clip_spec.num_frames == 1, "tested and served frame by frame, as TSN's"


def test_a_config_with_sources_survives_json(joint_config: TrainConfig) -> None:
    config = joint_config.changed(aux_power=0.2, turns="alternate", aux_batch=(6, 3))
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
