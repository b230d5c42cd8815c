"""Files of probes: the probe itself, without pickle, and its predictions.

A probe is two files: NAME.npz (the numbers) and NAME.json (labels and what was measured). Each takes its place whole,
and the second has the SHA-256 of the first, so that a run which ends between them leaves no numbers with other labels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.atomic import replacing, write_text
from tenclip_data.scan import printable_name
from tenclip_features.linear import Probe
from tenclip_features.probe_results import ProbeResult, ProbeRuns
from tenclip_features.scores import Predictions

FORMAT = "tenclip-probe"
# Version 2 says of a probe of several labels a video that it is one; others are written as version 1.
FORMAT_VERSIONS = (1, 2)
PREDICTION_SUFFIXES = (".csv", ".parquet")


def save_probe(path: Path | str, result: ProbeResult | ProbeRuns) -> tuple[Path, Path]:
    """Write PATH.npz and PATH.json (one of the suffixes may be there already); returns both.

    Of a cross-validation the probe that was fitted on all videos is written. Raises CheckpointError where the files
    cannot be written, with those of an earlier probe left as they were; ValueError for several splits, which have a
    probe each, and for nearest neighbours.
    """
    probe = result.probe if isinstance(result, ProbeResult) else result.final
    if probe is None:
        raise ValueError("each split has a probe of its own; save them one by one")
    if not isinstance(probe, Probe):
        raise ValueError("nearest neighbours are the training rows themselves; only linear probes are saved")
    numbers, facts = _paths(path)
    stored = io.BytesIO()
    np.savez(stored, mean=probe.mean, scale=probe.scale, weights=probe.weights, bias=probe.bias)
    values = {
        "format": FORMAT,
        "format_version": 2 if probe.multi_label else 1,
        **result.to_dict(),
        "labels": list(probe.labels),
        "multi_label": probe.multi_label,
        "model": probe.model,
        "version": probe.version,
        "model_weights": probe.model_weights,
        "feature_dim": len(probe.mean),
        "npz_sha256": hashlib.sha256(stored.getbuffer()).hexdigest(),
    }
    try:
        numbers.parent.mkdir(parents=True, exist_ok=True)
        with replacing(numbers) as file:
            file.write(stored.getbuffer())
            file.flush()  # a full disk is seen here, before either file is replaced
            # The one with the hash comes first: the numbers of an earlier version do not pass for its own.
            write_text(facts, json.dumps(values, indent=2) + "\n")
    except OSError as err:
        raise CheckpointError(f"{numbers}: cannot be written: {err}") from err
    return numbers, facts


def read_facts(path: Path | str) -> dict[str, Any]:
    """The labels of a probe and what was measured: its .json file. Raises CheckpointError for anything else."""
    _, facts = _paths(path)
    try:
        values: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        if values.get("format") != FORMAT or values.get("format_version") not in FORMAT_VERSIONS:
            raise CheckpointError(f"{facts}: not a {FORMAT} of version {' or '.join(map(str, FORMAT_VERSIONS))}")
    except FileNotFoundError:
        raise CheckpointError(f"{facts}: no such file; a probe is a .npz and a .json") from None
    except (OSError, ValueError, AttributeError) as err:
        raise CheckpointError(f"{facts}: not a probe, or damaged: {err}") from err
    return values


def load_probe(path: Path | str) -> Probe:
    """Read what `save_probe` wrote. Raises CheckpointError for anything else, and for two files of different probes."""
    numbers, facts = _paths(path)
    values = read_facts(path)
    try:
        stored = numbers.read_bytes()
        # Earlier versions wrote no hash.
        if "npz_sha256" in values and values["npz_sha256"] != hashlib.sha256(stored).hexdigest():
            raise CheckpointError(
                f"{numbers}: not a probe, or damaged: it is not the file that {facts.name} was written with "
                "(SHA-256); fit the probe again"
            )
        with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
            mean, scale, weights, bias = (arrays[k] for k in ("mean", "scale", "weights", "bias"))
        probe = Probe(
            labels=tuple(values["labels"]),
            mean=mean,
            scale=scale,
            weights=weights,
            bias=bias,
            model=values["model"],
            version=values["version"],
            model_weights=values.get("model_weights", ""),
            multi_label=bool(values.get("multi_label", False)),
        )
        _check(numbers, probe, values.get("feature_dim"))
    except FileNotFoundError as err:
        raise CheckpointError(f"{err.filename}: no such file; a probe is a .npz and a .json") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as err:
        raise CheckpointError(f"{numbers}: not a probe, or damaged: {err}") from err
    return probe


def check_predictions_path(path: Path) -> None:
    """Before anything is fitted. Raises InvalidRequest for a file of a kind that `write_predictions` does not know."""
    if path.suffix.lower() not in PREDICTION_SUFFIXES:
        raise InvalidRequest(f"{path}: predictions are written as .csv or .parquet")


def write_predictions(path: Path, predictions: Sequence[Predictions]) -> int:
    """One row a video into a .csv or a .parquet file; returns the number of rows.

    Columns: video; fold (the fold, or the list of videos; empty for one split); labels, the true ones joined by ";";
    predicted, the most probable class; score, its probability; correct; then for each class its probability, in a
    column `p:LABEL` (empty where a fold's probe does not know the class).
    The file is written whole or not at all. Raises InvalidRequest for another suffix, DatasetError where it cannot be
    written.
    """
    check_predictions_path(path)
    classes = list(dict.fromkeys(label for one in predictions for label in one.labels))
    rows = [row for one in predictions for row in _prediction_rows(one, classes)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".csv":
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            write_text(path, text.getvalue())
        else:
            import pyarrow
            import pyarrow.parquet

            with replacing(path) as file:
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    except OSError as err:
        raise DatasetError(f"{path}: cannot be written: {err.strerror or err}") from err
    return len(rows)


def _prediction_rows(predictions: Predictions, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    everything = zip(
        predictions.names, predictions.truth, predictions.predicted, predictions.probabilities.tolist(), strict=True
    )
    for name, truth, predicted, probabilities in everything:
        of_class = dict(zip(predictions.labels, probabilities, strict=True))
        yield {
            "video": printable_name(name),
            "fold": predictions.fold,
            "labels": ";".join(truth),
            "predicted": predicted,
            "score": of_class[predicted],
            "correct": predicted in truth,
            **{f"p:{label}": of_class.get(label) for label in classes},
        }


def _check(numbers: Path, probe: Probe, dim: object) -> None:
    num_classes = len(probe.labels)
    arrays = (probe.mean, probe.scale, probe.weights, probe.bias)
    if [a.shape for a in arrays] != [(dim,), (dim,), (num_classes, dim), (num_classes,)]:
        shapes = [a.shape for a in arrays]
        raise CheckpointError(f"{numbers}: arrays of {shapes} for {num_classes} labels and {dim} features")
    if not all(np.isfinite(a).all() for a in arrays):
        raise CheckpointError(f"{numbers}: holds values that are not finite")


def _paths(path: Path | str) -> tuple[Path, Path]:
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".npz", ".json") else path
    return stem.with_name(stem.name + ".npz"), stem.with_name(stem.name + ".json")
