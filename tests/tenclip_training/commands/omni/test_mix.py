"""`tenclip omni mix` as users run it, and training on what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train
from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of
from tests.tenclip_training.omni.colors import CLASSES, teacher_spec, write_images


def two_sources(folder: Path) -> tuple[Path, Path]:
    """12 images of google, 4 a class; of social 9, 2 to 4 a class."""
    google = write_images(folder / "google", [(CLASSES[i % 3], CLASSES[i % 3], "google") for i in range(12)])
    shown = [CLASSES[c] for c, count in enumerate((2, 3, 4)) for _ in range(count)]
    return google, write_images(folder / "social", [(label, label, "social") for label in shown])


def test_one_source_and_several_at_equal_size(run: Run, tmp_path: Path) -> None:
    """The comparison itself: three runs that differ in their auxiliary files alone, and see equally many of them."""
    out = tmp_path / "mixes"
    found = json_of(run("omni", "mix", *two_sources(tmp_path), "--out", out, "--json"))
    assert found["size"] == 9
    assert found["sets"] == {"google": {"google": 9}, "social": {"social": 9}, "mixed": {"google": 5, "social": 4}}
    assert found["classes"] == {"blue": 2, "green": 3, "red": 4}
    assert json.loads((out / "mixes.json").read_text()) == found
    target = write_images(tmp_path / "target", [(CLASSES[i % 3], CLASSES[i % 3], "target") for i in range(12)])
    clips = []
    for name, path in found["manifests"].items():
        table = pq.read_table(path)
        assert table.num_rows == 9
        assert set(table["source"].to_pylist()) == set(found["sets"][name])
        config = TrainConfig(
            manifest=str(target), out=str(tmp_path / name), architecture="r2d_18", model={"width": 4},
            clip_spec=teacher_spec(), epochs=1, batch_size=4, device="cpu", precision="fp32", cache_gib=0.0,
        )  # fmt: skip
        config = config.changed(aux=(path,), ratio=(2, 1), images="replicate", val_protocol="center-clip")
        (epoch,) = train(config.changed(warmup_epochs=0)).history
        clips.append((epoch.facts["target clips"], epoch.facts[f"{name} clips"]))
    assert clips[0] == clips[1] == clips[2]


def test_what_a_person_reads(run: Run, tmp_path: Path) -> None:
    google, social = two_sources(tmp_path)
    out = tmp_path / "mixes"
    code, said, _ = run("omni", "mix", google, social, "--out", out, "--ratio", "2:1", "--size", 6)
    assert code == 0
    assert "6 files of 3 classes in each manifest" in said
    assert f"{out}/google.parquet: 6 of google" in said
    assert f"{out}/mixed-2-1.parquet: 4 of google, 2 of social" in said
    assert "is not numbers with colons between them, as 3:1" in error_of(
        run("omni", "mix", google, social, "--out", out, "--ratio", "two")
    )
    assert "all files are of the source 'google'" in error_of(run("omni", "mix", google, "--out", out))
