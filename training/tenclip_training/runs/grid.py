"""Grid search: settings of a run are chosen on a part of the training videos, held out for that (IG-65M, section 4).

    grid.json            the results, best first; written after every run
    holdout.parquet      the training videos, split into train and val: what the runs read
    labels.json          the classes in their order
    lr=0.1,momentum=0/   one run for each combination of values, as `tenclip train` leaves it
        grid.json        its result

A combination's folder is named by its values, so that a search may be widened later: what is done is not done again,
and a run that was interrupted goes on. Videos of the splits val and test are never looked at.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import CheckpointError, InvalidRequest, TenclipError, TrainingDiverged
from tenclip_data.atomic import write_text
from tenclip_data.leaks import file_facts, same_videos
from tenclip_data.samples import Manifest, Sample
from tenclip_data.splits import stratified_split
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.data.segments import SNIPPET_COLUMNS
from tenclip_training.data.shards.samples import ShardSample
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World, join_world
from tenclip_training.runs.grid_points import Point, not_all_work
from tenclip_training.runs.grid_results import GridResult, Measure, Row, ranked
from tenclip_training.runs.joint import method_of
from tenclip_training.runs.optimization import build_optimizer, resolve_precision
from tenclip_training.runs.results import EpochResult, Progress, TrainResult
from tenclip_training.runs.run_folder import changes, manifest_sha256
from tenclip_training.runs.setup import build_model
from tenclip_training.runs.train import train
from tenclip_training.runs.transfer import prepare_transfer

DEFAULT_PART = 0.1


@dataclass(frozen=True, kw_only=True)
class Events:
    """What a caller hears of a search."""

    on_begin: Callable[[int, Point], None] = lambda number, point: None
    on_row: Callable[[int, Row], None] = lambda number, row: None
    on_epoch: Callable[[EpochResult], None] = lambda result: None
    progress: Callable[[int, Progress], None] = lambda number, progress: None


def search(
    points: Sequence[Point],
    folder: Path,
    *,
    part: float = DEFAULT_PART,
    by: Measure | None = None,
    events: Events | None = None,
) -> GridResult:
    """Train each point on all but `part` of every class of the training split, and score it on that part.

    The videos held out follow from the first point's seed. by: what decides, of the videos held out: top-1, mean
    average precision or the loss; None is mAP with a sigmoid for each class, and else top-1. A point whose training
    diverges is a row, and the others go on.
    Raises InvalidRequest before the first run for values that cannot work, DatasetError, and CheckpointError for a
    folder that holds a search of other videos or settings. SIGINT ends the run at hand after its step, and the search.
    """
    folder, base = Path(os.path.abspath(folder)), points[0].config
    world = join_world(base.device)
    events = events if events is not None and world.is_first else Events()
    by = _measure(points, by)
    train_split = method_of(base).read_splits(base).train  # auxiliary sources, too: runs see no split but train
    if any(isinstance(s, ShardSample) for s in train_split.samples):
        raise InvalidRequest(f"{base.manifest}: holds shards, and a grid search holds out files; give it those")
    manifest = hold_out(train_split, part=part, seed=base.seed, heads=base.heads)
    check_points(points, manifest.labels, world)
    _write_videos(folder, manifest, world)
    rows: dict[str, Row] = {}
    for number, point in enumerate(points, start=1):
        events.on_begin(number, point)
        row = _run(point, folder, manifest, world, number, events)
        if row is None:
            break
        rows[point.name] = row
        events.on_row(number, row)
        result = _result(folder, rows, points, manifest, by)
        if world.is_first:
            write_text(folder / "grid.json", json.dumps(result.to_dict(), indent=2) + "\n")
    return _result(folder, rows, points, manifest, by)


def _measure(points: Sequence[Point], by: Measure | None) -> Measure:
    with_sigmoids = all("sigmoid" in point.config.objective.loss for point in points)
    if by == "map" and not with_sigmoids:
        raise InvalidRequest("mAP is of runs with a sigmoid for each class (--loss sigmoid): decide by top1 or loss")
    return by or ("map" if with_sigmoids else "top1")


def hold_out(train_split: Manifest, *, part: float, seed: int, heads: Sequence[str] = ()) -> Manifest:
    """The training videos with splits train and val: `part` of each class is held out, copies of a video together.

    The class is the first label of a video. heads: columns that the labels are of, which stay columns. Raises
    DatasetError where no class has two videos.
    """

    def columns(labels: Sequence[str]) -> dict[str, str]:
        return {head: label[len(head) + 1 :] for head, label in zip(heads, labels, strict=bool(heads))}

    samples = tuple(
        dataclasses.replace(s, extra={**{k: s.extra[k] for k in SNIPPET_COLUMNS if k in s.extra}, **columns(s.labels)})
        for s in train_split.samples
    )
    copies = same_videos(samples, file_facts(samples))
    plain = dataclasses.replace(train_split, samples=samples)
    return stratified_split(plain, held_out=part, seed=seed, same_video=copies)


def check_points(points: Sequence[Point], labels: tuple[str, ...], world: World) -> None:
    """Make the network and the optimiser of each point. Raises InvalidRequest that names all that cannot be."""
    problems: dict[str, list[Mapping[str, str]]] = {}
    seen: dict[str, str] = {}  # what a network and an optimiser follow from -> what is wrong with them
    for point in points:
        config, device = point.config, world.device(point.config.device)
        parts = (config.architecture, config.model, config.transfer, config.clip, config.clip_spec, config.precision)
        key = repr((parts, config.sampling.segments, str(device), sorted(config.optimizer.layer_lr.items())))
        if key not in seen:
            seen[key] = ""
            try:
                resolve_precision(config.precision, device)
                model = build_model(config, labels).model
                prepare_transfer(model, config.transfer, device)
                build_optimizer(model, config.optimizer)
            except TenclipError as err:
                seen[key] = str(err)
        if seen[key]:
            problems.setdefault(seen[key], []).append(point.values)
    if problems:
        raise InvalidRequest(not_all_work(problems))


def _write_videos(folder: Path, manifest: Manifest, world: World) -> None:
    """Write what the runs read, unless it is there. Raises CheckpointError where other videos are."""
    held, found = _sha256(manifest), None
    state = folder / "videos.json"
    if state.exists():
        found = json.loads(state.read_text(encoding="utf-8")).get("sha256")
        if found != held:
            raise CheckpointError(
                f"{folder}: holds a search on other videos, labels or parts of them; choose another folder"
            )
    if world.is_first and found is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder / "holdout.parquet", [_as_written(s) for s in manifest.samples])
        write_text(folder / "labels.json", json.dumps(list(manifest.labels)) + "\n")
        write_text(state, json.dumps({"sha256": held}) + "\n")
    world.wait()


def _as_written(sample: Sample) -> Sample:
    """With a head of the name label, that column is this head's, and not the labels of all."""
    if "label" not in sample.extra:
        return sample
    others = {name: value for name, value in sample.extra.items() if name != "label"}
    return dataclasses.replace(sample, labels=(sample.extra["label"],), extra=others)


def _sha256(manifest: Manifest) -> str:
    splits = [s.split for s in manifest.samples]
    return hashlib.sha256(f"{manifest_sha256(manifest)} {splits}".encode()).hexdigest()


def run_config(point: Point, folder: Path) -> TrainConfig:
    """The config of a point's run: on the videos of the search, without those held out."""
    return point.config.changed(
        manifest=str(folder / "holdout.parquet"),
        labels=str(folder / "labels.json"),
        out=str(folder / point.name),
        videos=None,
        label_column=None,
        train_split="train",
        val_split="val",
        whole_videos=False,
    )


def _run(point: Point, folder: Path, manifest: Manifest, world: World, number: int, events: Events) -> Row | None:
    """The row of a point, from its file or from its run; None where that was interrupted."""
    config = run_config(point, folder)
    done = _read_row(Path(config.out), config)
    if done is not None:
        return done
    try:
        result = train(config, resume=True, on_epoch=events.on_epoch, progress=lambda p: events.progress(number, p))
    except TrainingDiverged as err:
        row = Row(values=point.values, folder=config.out, status="diverged", note=str(err))
    else:
        if not result.completed:
            return None
        row = _row(point, result)
    if world.is_first:
        values = {"row": dataclasses.asdict(row), "config": config.to_dict()}
        write_text(Path(config.out) / "grid.json", json.dumps(values, indent=2) + "\n")
    world.wait()
    return row


def _row(point: Point, result: TrainResult) -> Row:
    last = result.history[-1]
    finite = last.val_loss is not None and math.isfinite(last.val_loss)
    return Row(
        values=point.values,
        folder=str(result.out),
        status="done",
        top1=last.val_video_top1,
        mean_average_precision=last.val_video_map,
        clip_top1=last.val_clip_top1,
        loss=last.val_loss if finite else None,
        videos=last.val_videos_decoded,
        videos_asked=last.val_videos_asked,
        train_loss=last.loss,
        epochs=last.epoch,
        seconds=sum(h.seconds for h in result.history),
    )


def _read_row(run: Path, config: TrainConfig) -> Row | None:
    """The result in a run's folder, None where there is none yet. Raises CheckpointError for one of other settings."""
    path = run / "grid.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        row = Row(**values["row"])
        differences = changes(values["config"], config)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as err:
        raise CheckpointError(f"{path}: not a result of a search, or damaged: {err!r}; remove its folder") from err
    if differences:
        details = ", ".join(f"{name} (was {was!r}, now {now!r})" for name, (was, now) in differences.items())
        raise CheckpointError(f"{run}: is of a search with other settings: {details}; choose another folder")
    return row


def _result(
    folder: Path, rows: Mapping[str, Row], points: Sequence[Point], manifest: Manifest, by: Measure
) -> GridResult:
    held = sum(s.split == "val" for s in manifest.samples)
    return GridResult(
        folder=folder,
        rows=ranked(rows.values(), by),
        points=len(points),
        completed=len(rows) == len(points),
        by=by,
        train_videos=len(manifest.samples) - held,
        holdout_videos=held,
    )
