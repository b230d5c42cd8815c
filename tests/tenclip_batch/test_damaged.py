"""Parts that are damaged, deleted or of something else: said before any work, or made good."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError
from tenclip_batch.ledger import summarize
from tenclip_batch.options import ClipChoices, OutputOptions, ResumeOptions
from tenclip_batch.run import Watching
from tests.tenclip_serving.helpers import make_video

from .helpers import rows, run


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(3):
        make_video(folder / f"{i}.mp4", num_frames=20 + 5 * i)
    return folder


@pytest.fixture
def out(bundle: Path, videos: Path, tmp_path: Path) -> Path:
    """A dataset of two parts: two videos, and one with a failure."""
    run(bundle, tmp_path / "out", videos / "0.mp4", videos / "1.mp4", output=OutputOptions(part_clips=20))
    run(bundle, tmp_path / "out", videos, tmp_path / "none.mp4", output=OutputOptions(part_clips=20))
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 2
    return tmp_path / "out"


def refuse(bundle: Path, out: Path, videos: Path, match: str) -> None:
    """It is refused before any video is worked on, and nothing in the folder changes."""
    before = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    idle = Watching(on_start=lambda total, done: pytest.fail("it began to work"))
    with pytest.raises(DatasetError, match=match):
        run(bundle, out, videos, watching=idle)
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == before


def test_a_part_of_something_else(bundle: Path, out: Path, videos: Path) -> None:
    first = out / "videos" / "part-00000.parquet"
    whole = pq.read_table(first)
    pq.write_table(pa.table({"name": ["a"], "size": [1]}), first)
    refuse(bundle, out, videos, r"videos/part-00000\.parquet: is no part of this dataset: it has no column video; move")
    with pytest.raises(DatasetError, match=r"videos/part-00000\.parquet: is no part .*: it has no column"):
        summarize(out)
    wrong = whole.schema.get_field_index("clips")
    pq.write_table(whole.set_column(wrong, "clips", whole["clips"].cast(pa.string())), first)
    refuse(
        bundle, out, videos, r"part-00000\.parquet: .*: its column clips is string, not int32; move it, and the file"
    )
    pq.write_table(whole.append_column("mine", whole["clips"]), first)
    refuse(bundle, out, videos, r"part-00000\.parquet: .*: it has the columns video, .*, mine; move it")
    # What it says to do works.
    first.unlink()
    (out / "clips" / first.name).unlink()
    assert run(bundle, out, videos).worked == 2


def test_a_part_of_another_dataset(bundle: Path, out: Path, videos: Path, tmp_path: Path) -> None:
    run(bundle, tmp_path / "other", videos, choices=ClipChoices(num_clips=2))
    for table in ("videos", "clips"):
        shutil.copy(tmp_path / "other" / table / "part-00000.parquet", out / table / "part-00007.parquet")
    refuse(bundle, out, videos, r"videos/part-00007\.parquet: .*: it is of other settings")
    shutil.move(out / "videos" / "part-00007.parquet", tmp_path)
    (out / "clips" / "part-00007.parquet").unlink()
    shutil.copy(tmp_path / "other" / "clips" / "part-00000.parquet", out / "clips")
    refuse(bundle, out, videos, r"clips/part-00000\.parquet: .*: it is of other settings")


def test_files_that_are_no_parts(bundle: Path, out: Path, videos: Path) -> None:
    """They stay, and nobody reads them."""
    mine = [out / table / name for table in ("videos", "clips") for name in ("part-new.parquet", "part-.parquet")]
    for path in mine:
        path.write_text("mine")
    assert run(bundle, out, videos).worked == 0
    assert [path.read_text() for path in mine] == ["mine"] * 4
    assert summarize(out)["done"] == 3


def test_clips_that_are_truncated(bundle: Path, out: Path, videos: Path) -> None:
    part = out / "clips" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    refuse(bundle, out, videos, r"clips/part-00000\.parquet: cannot be read as Parquet: .*; delete it and run again")
    part.unlink()
    report = run(bundle, out, videos)
    assert (report.worked, report.done, report.clips) == (2, 3, 30)


def test_clips_of_another_part(bundle: Path, out: Path, videos: Path) -> None:
    shutil.copy(out / "clips" / "part-00001.parquet", out / "clips" / "part-00000.parquet")
    refuse(
        bundle, out, videos, r"clips/part-00000\.parquet: .*: it has 10 rows, and .*videos/part-00000\.parquet speaks"
    )


def test_clips_that_were_deleted(bundle: Path, out: Path, videos: Path, tmp_path: Path) -> None:
    """Their videos are done anew; those of the other part, and failures, stay as they are."""
    expected = rows(out)
    (out / "clips" / "part-00000.parquet").unlink()
    report = run(bundle, out, videos, tmp_path / "none.mp4")
    assert (report.worked, report.reused, report.failed) == (2, 1, 1)
    assert report.changed == (str(videos / "0.mp4"), str(videos / "1.mp4"))
    assert rows(out) == expected
    # And where they are not named any more, they are dropped: the sums speak of no clips that nobody has.
    for part in (out / "clips").iterdir():
        part.unlink()
    report = run(bundle, out, videos / "0.mp4")
    assert (report.worked, report.done, report.clips) == (1, 1, 10)
    assert rows(out).num_rows == 10


def test_scores_of_clips_that_were_deleted(bundle: Path, videos: Path, tmp_path: Path) -> None:
    out, output = tmp_path / "out", OutputOptions(task="predict", per_clip=True)
    run(bundle, out, videos, output=output)
    (out / "clips" / "part-00000.parquet").unlink()
    assert run(bundle, out, videos, output=output).worked == 3
    assert rows(out).num_rows == 30
    # Without --per-clip there is nothing to miss.
    run(bundle, tmp_path / "plain", videos, output=OutputOptions(task="predict"))
    assert run(bundle, tmp_path / "plain", videos, output=OutputOptions(task="predict")).worked == 0


def test_a_dataset_of_foreign_parts_is_begun_again(bundle: Path, out: Path, videos: Path) -> None:
    (out / "videos" / "part-00000.parquet").write_text("no table")
    refuse(
        bundle, out, videos, r"cannot be read as Parquet: .*; delete it, and the file of its name in clips/, and run"
    )
    assert run(bundle, out, videos, resume=ResumeOptions(overwrite=True)).done == 3
