"""Building an index and adding to it: whole or not at all, of one model, and the same for the same tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, IndexMismatch, IndexNotFound
from tenclip_data.manifest import read_manifest
from tenclip_index import open_index
from tenclip_index.build import add_to_index, build_index
from tenclip_index.folder import writing
from tenclip_index.metadata import read_info

from .made_up import CLIPS, clustered, contents, write

DIM = 12


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    return clustered(100, DIM)


@pytest.fixture
def table(tmp_path: Path, features: NDArray[np.float32]) -> Path:
    return write(tmp_path / "f.parquet", features)


def with_column(path: Path, name: str, values: Any) -> Path:
    """The same table with another column in the place of one."""
    read = pq.read_table(path)
    place = read.schema.get_field_index(name)
    pq.write_table(read.set_column(place, pa.field(name, values.type), values), path)
    return path


def with_vector(path: Path, row: int, vector: NDArray[Any]) -> Path:
    read = pq.read_table(path)
    matrix = read["features"].combine_chunks().flatten().to_numpy().reshape(-1, DIM).copy()
    matrix[row] = vector
    return with_column(path, "features", pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIM))


def test_what_is_written(table: Path, tmp_path: Path) -> None:
    info = build_index([table], tmp_path / "index")
    values = json.loads((tmp_path / "index" / "index.json").read_text())
    assert values == json.loads(json.dumps(info.to_dict()))
    assert (values["format"], values["metric"], values["kind"]) == ("tenclip-index", "cosine", "exact-fp16")
    assert (values["rows"], values["videos"], values["dimension"]) == (100, 20, DIM)
    assert (values["model"], values["version"], values["weights"]) == ("moves", "1", "0123456789abcdef")
    assert values["protocols"] == ["ten-clip"]
    assert values["recall"]["value"] > 0.99
    assert values["recall"]["queries"] == 100
    assert set(values["versions"]) == {"tenclip", "faiss", "numpy"}
    assert set(contents(tmp_path / "index")) == {"index.json", "vectors.faiss", "rows.parquet"}
    rows = pq.read_table(tmp_path / "index" / "rows.parquet")
    assert rows.column_names == ["video", "clip_index", "start_seconds", "end_seconds", "labels", "source"]
    assert set(rows["source"].to_pylist()) == {"f"}


@pytest.mark.parametrize("options", [{}, {"precision": "float32"}, {"max_exact_rows": 50}])
def test_the_same_tables_give_the_same_bytes(table: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    for name in ("one", "two"):
        build_index([table], tmp_path / name, **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_float32_is_exact(table: Path, tmp_path: Path) -> None:
    info = build_index([table], tmp_path / "index", precision="float32", max_exact_rows=50)
    assert info.kind == "exact-float32"
    assert info.recall is not None
    assert info.recall.value == 1


def test_a_folder_of_parts(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """As a dataset has them: clips/part-*.parquet, beside a table of something else."""
    clips = tmp_path / "dataset" / "clips"
    clips.mkdir(parents=True)
    write(clips / "part-00001.parquet", features[50:], prefix="b")
    write(clips / "part-00000.parquet", features[:50], prefix="a")
    (tmp_path / "dataset" / "videos").mkdir()
    pq.write_table(pa.table({"video": ["a"]}), tmp_path / "dataset" / "videos" / "part-0.parquet")
    info = build_index([tmp_path / "dataset"], tmp_path / "index")
    assert (info.rows, dict(info.sources)) == (100, {"dataset": 100})
    assert open_index(tmp_path / "index").rows.videos[0] == "a/a000.mp4"
    assert build_index([clips], tmp_path / "two", source="web").sources == {"web": 100}


def test_clips_of_the_same_frames_are_kept_once(table: Path, tmp_path: Path) -> None:
    """Short videos: ten clips, and fewer places to begin."""
    starts = [0.0, 0.0, 0.0, 1.0, 1.0] * 20
    with_column(table, "start_seconds", pa.array(starts))
    with_column(table, "end_seconds", pa.array([s + 1 for s in starts]))
    info = build_index([table], tmp_path / "index")
    assert (info.rows, info.repeated) == (40, 60)
    assert [c.clip_index for c in open_index(tmp_path / "index").clips(range(4))] == [0, 3, 0, 3]


def test_labels_of_videos_and_of_parts(table: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "path,label,start,end\nv/v000.mp4,run,0,2\nv/v000.mp4,jump,2,5\nv/v001.mp4,run,,\nelsewhere.mp4,swim,,\n"
    )
    manifest = read_manifest(tmp_path / "m.csv", missing="keep", leaks="allow", held_out=None)
    info = build_index([table], tmp_path / "index", labels=manifest)
    index = open_index(tmp_path / "index")
    assert [c.labels for c in index.clips(range(11))] == [("run",)] * 2 + [("jump",)] * 3 + [("run",)] * 5 + [()]
    assert info.labels == 2
    (tmp_path / "m.csv").write_text("path,label\nelsewhere.mp4,swim\nthere.mp4,run\n")
    manifest = read_manifest(tmp_path / "m.csv", missing="keep", leaks="allow", held_out=None)
    with pytest.raises(DatasetError, match=r"m.csv: has none of the videos of the features \(v/v000.mp4, ...\)"):
        build_index([table], tmp_path / "other", labels=manifest)


# -- bad input --


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.write_text("no parquet"), "f.parquet: cannot be read as Parquet"),
        (lambda t: t.unlink(), "f.parquet: no such file or folder; `tenclip features"),
        (lambda t: pq.write_table(pa.table({"id": [1], "text": ["a"]}), t), "no column 'video'; it has id, text"),
        (lambda t: pq.write_table(pq.read_table(t).slice(0, 0), t), "f.parquet: holds no clips"),
        (lambda t: with_vector(t, 42, np.full(DIM, np.nan)), "f.parquet, row 43: features that are not finite"),
        (lambda t: with_vector(t, 7, np.zeros(DIM)), "f.parquet, row 8: features that are all zero"),
        (lambda t: with_column(t, "video", pa.array(["a"] * 99 + [None])), "row 100: column 'video' is empty"),
        (lambda t: with_column(t, "features", pa.array(["a"] * 100)), "column 'features' holds string, not lists"),
        (lambda t: with_column(t, "video", pa.array(["v/v000.mp4"] * 100)), "row 6: clip 0 of v/v000.mp4 is there"),
    ],
)
def test_tables_that_cannot_be_used(table: Path, tmp_path: Path, change: Any, says: str) -> None:
    change(table)
    with pytest.raises(DatasetError, match=says):
        build_index([table], tmp_path / "index")
    assert not (tmp_path / "index").exists(), "nothing is left"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": "f" * 16}, r"moves version 1 \(weights ffffffffffffffff\)"),
        ({"version": "2"}, "moves version 2"),
        ({"model": "other"}, "other version 1"),
    ],
)
def test_features_of_another_model(
    table: Path, tmp_path: Path, features: NDArray[np.float32], settings: dict[str, Any], says: str
) -> None:
    other = write(tmp_path / "other.parquet", features, prefix="w", **settings)
    with pytest.raises(IndexMismatch, match=says) as caught:
        build_index([table, other], tmp_path / "index")
    assert "moves version 1 (weights 0123456789abcdef)" in caught.value.message
    assert str(table) in caught.value.message
    build_index([table], tmp_path / "index")
    before = contents(tmp_path / "index")
    with pytest.raises(IndexMismatch, match=says) as caught:
        add_to_index(tmp_path / "index", [other])
    assert all(str(p) in caught.value.message for p in (other, tmp_path / "index"))
    assert contents(tmp_path / "index") == before


def test_other_models_and_lengths_within(table: Path, tmp_path: Path, features: NDArray[np.float32]) -> None:
    short = write(tmp_path / "short.parquet", features[:, :6], prefix="w")
    with pytest.raises(IndexMismatch, match=r"short.parquet: 6 features a clip, and .* has 12"):
        build_index([table, short], tmp_path / "index")
    with_column(table, "version", pa.array(["1"] * 60 + ["2"] * 40))
    with pytest.raises(IndexMismatch, match="has features of versions 1 and 2"):
        build_index([table], tmp_path / "index")


def test_an_index_that_is_there(table: Path, tmp_path: Path, features: NDArray[np.float32]) -> None:
    build_index([table], tmp_path / "index")
    before = contents(tmp_path / "index")
    with pytest.raises(DatasetError, match="is an index already; `tenclip index add`"):
        build_index([table], tmp_path / "index")
    bad = with_vector(write(tmp_path / "bad.parquet", features, prefix="w"), 99, np.zeros(DIM))
    with pytest.raises(DatasetError, match="row 100"):
        build_index([bad], tmp_path / "index", overwrite=True)
    assert contents(tmp_path / "index") == before
    assert build_index([table], tmp_path / "index", overwrite=True).generation == 1
    assert set(contents(tmp_path / "index")) == {"index.json", "vectors.1.faiss", "rows.1.parquet"}
    (tmp_path / "index" / "index.json").write_text("{")
    with pytest.raises(DatasetError, match=r"index.json: cannot be read"):
        open_index(tmp_path / "index")
    build_index([table], tmp_path / "index", overwrite=True)
    assert len(open_index(tmp_path / "index").rows) == 100


def test_folders_of_others(table: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(DatasetError, match=r"is a folder of other files \(a.jpg\)"):
        build_index([table], tmp_path / "photos", overwrite=True)
    with pytest.raises(DatasetError, match=r"f.parquet: is a file"):
        build_index([table], table, overwrite=True)
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.jpg"]


# -- adding --


@pytest.mark.parametrize("options", [{}, {"precision": "float32"}, {"max_exact_rows": 50}])
def test_adding(table: Path, tmp_path: Path, features: NDArray[np.float32], options: dict[str, Any]) -> None:
    build_index([table], tmp_path / "index", **options)
    opened = open_index(tmp_path / "index")
    before = opened.neighbours(features[[0]], k=100)
    more = clustered(30, DIM, seed=5)
    added = add_to_index(tmp_path / "index", [table, write(tmp_path / "more.parquet", more, prefix="w")])
    assert (added.added, added.known, added.info.rows, added.info.videos) == (30, 100, 130, 26)
    assert added.info.sources == {"f": 100, "more": 30}
    assert added.info.recall is not None
    assert (added.info.recall.rows, added.info.recall.against) == (130, "stored")
    now = open_index(tmp_path / "index")
    assert now.neighbours(more[[7]], k=1)[0].video == "w/w001.mp4"
    assert opened.neighbours(features[[0]], k=100) == before, "one that was open stays as it was"
    if now.info.exact:
        whole = build_index([table, tmp_path / "more.parquet"], tmp_path / "whole", **options)
        vectors = (tmp_path / "whole" / whole.files["vectors"].name).read_bytes()
        assert (tmp_path / "index" / now.info.files["vectors"].name).read_bytes() == vectors
    again = add_to_index(tmp_path / "index", [table])
    assert (again.added, again.known, again.info.generation) == (0, 100, 1)


def test_an_exact_index_that_grows_gets_lists(table: Path, tmp_path: Path) -> None:
    build_index([table], tmp_path / "index")
    more = clustered(60, DIM, seed=5)
    info = add_to_index(
        tmp_path / "index", [write(tmp_path / "more.parquet", more, prefix="w")], max_exact_rows=120
    ).info
    assert (info.kind, info.rows, info.lists) == ("ivf-sq8", 160, 4)
    assert open_index(tmp_path / "index").neighbours(more[[7]], k=1)[0].video == "w/w001.mp4"


def test_adding_is_all_or_nothing(table: Path, tmp_path: Path, features: NDArray[np.float32]) -> None:
    build_index([table], tmp_path / "index")
    before = contents(tmp_path / "index")
    good = write(tmp_path / "good.parquet", clustered(30, DIM, seed=5), prefix="w")
    bad = with_vector(write(tmp_path / "bad.parquet", clustered(30, DIM, seed=6), prefix="x"), 29, np.zeros(DIM))
    with pytest.raises(DatasetError, match=r"bad.parquet, row 30"):
        add_to_index(tmp_path / "index", [good, bad])
    changed = with_vector(write(tmp_path / "changed.parquet", features), 42, features[0])
    with pytest.raises(
        DatasetError, match=r"changed.parquet, row 43: the index has this clip of v/v008.mp4 with other"
    ):
        add_to_index(tmp_path / "index", [good, changed])
    assert contents(tmp_path / "index") == before
    with pytest.raises(IndexNotFound):
        add_to_index(tmp_path / "nothing", [good])
    assert not (tmp_path / "nothing").exists()


def test_half_an_index_json_of_a_killed_process_goes(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    draft = tmp_path / "index" / ".index.json.0123456789abcdef.part"
    draft.write_text("{")
    with writing(tmp_path / "index"):
        assert not draft.exists()


def test_two_writers(table: Path, tmp_path: Path) -> None:
    build_index([table], tmp_path / "index")
    before = contents(tmp_path / "index")
    more = write(tmp_path / "more.parquet", clustered(30, DIM, seed=5), prefix="w")
    program = "import sys; from tenclip_index.build import add_to_index; add_to_index(sys.argv[1], sys.argv[2:])"
    with writing(tmp_path / "index"):
        with pytest.raises(DatasetError, match="another process is writing this index"):
            build_index([table], tmp_path / "index", overwrite=True)
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "index"), str(more)], capture_output=True, text=True
        )
        assert "another process is writing this index" in done.stderr
        assert contents(tmp_path / "index") == before
        assert len(open_index(tmp_path / "index").rows) == 100, "readers are not held up"
    assert add_to_index(tmp_path / "index", [more]).added == 30


# Files of at most so many bytes: what a full disk answers, without filling one.
_LIMITED = """
import resource, signal, sys
from tenclip_api.errors import DatasetError
from tenclip_index.build import add_to_index, build_index
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (500, 2000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for order in (lambda: add_to_index(sys.argv[1], sys.argv[2:]),
                  lambda: build_index(sys.argv[2:], sys.argv[1], overwrite=True),
                  lambda: build_index(sys.argv[2:], sys.argv[1] + ".new")):
        try:
            order()
            print("written")
        except DatasetError as err:
            print(err.message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit on Windows")
def test_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index([write(tmp_path / "f.parquet", clustered(100, 4))], folder)
    before = contents(folder)
    more = write(tmp_path / "more.parquet", clustered(100, 4, seed=5), prefix="w" * 40, clips=1)
    done = subprocess.run([sys.executable, "-c", _LIMITED, folder, more], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"{folder}{name}: cannot be written: File too large"
        for name in (
            "/vectors.1.faiss", "/vectors.1.faiss", ".new/vectors.faiss",
            "/rows.1.parquet", "/rows.1.parquet", ".new/rows.parquet",
        )
    ], done.stderr  # fmt: skip
    assert contents(folder) == before
    assert len(open_index(folder).rows) == 100
    assert not Path(f"{folder}.new").exists()


def test_a_killed_writer_leaves_the_index(table: Path, tmp_path: Path) -> None:
    """Its files are there and count for nothing; the next writer takes their names."""
    build_index([table], tmp_path / "index")
    more = write(tmp_path / "more.parquet", clustered(30, DIM, seed=5), prefix="w")
    program = (
        "import os, sys, tenclip_index.folder as f; from tenclip_index.build import add_to_index;"
        "f.Draft.commit = lambda *a: os._exit(9); add_to_index(sys.argv[1], sys.argv[2:])"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "index"), str(more)], check=False)
    assert killed.returncode == 9
    assert (tmp_path / "index" / "vectors.1.faiss").exists()
    assert len(open_index(tmp_path / "index").rows) == 100
    assert add_to_index(tmp_path / "index", [more]).info.rows == 130
    assert set(contents(tmp_path / "index")) == {"index.json", "vectors.1.faiss", "rows.1.parquet"}
    assert read_info(tmp_path / "index").rows == 130
    assert os.path.exists(tmp_path / "index" / ".lock")
    assert CLIPS == 5
