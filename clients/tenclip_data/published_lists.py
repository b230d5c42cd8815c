"""The published lists of UCF-101 and HMDB-51, known by the names of their files."""

from __future__ import annotations

import re
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.labels import read_labels
from tenclip_data.lists import parse_lines
from tenclip_data.paths import resolve
from tenclip_data.samples import Sample
from tenclip_data.source import ReadOptions, Rows, refuse_column
from tenclip_data.text import lines_of, read_text

UCF_LIST = re.compile(r"(train|test)list(\d+)\.txt")
HMDB_LIST = re.compile(r"(?P<label>.+)_test_split(?P<fold>\d+)\.txt")


def read_ucf(source: Path, options: ReadOptions) -> Rows:
    """Read UCF-101's `Class/v_x.avi 1`, or without the number in test lists; the class is the folder's name.

    The other list and classInd.txt are found beside it. Names may hold blanks.
    """
    refuse_column(source, options)
    match = UCF_LIST.fullmatch(source.name)
    assert match is not None
    samples = []
    for split in ("train", "test"):
        file = source.with_name(f"{split}list{match[2]}.txt")
        if file != source and not (options.need_labels and file.is_file()):
            continue
        for line in parse_lines(file, read_text(file), options.root):
            folder, slash, _ = line.name.replace("\\", "/").rpartition("/")
            if not slash or not folder or len(line.fields) > 1:
                raise DatasetError(f"{file}, line {line.number}: expected 'Class/video.avi 1', got {line.text!r}")
            samples.append(
                Sample(
                    path=resolve(options.root, line.name),
                    name=line.name,
                    labels=(folder.rpartition("/")[2],),
                    split=split,
                    line=line.number,
                    file=file,
                )
            )
    class_index = source.with_name("classInd.txt")
    return Rows(samples=samples, labels=read_labels(class_index) if class_index.is_file() else None)


def read_hmdb(source: Path, options: ReadOptions) -> Rows:
    """Read HMDB-51's `x.avi 1`: 1 train, 2 test, 0 unused in this fold; the class is in the list's own name.

    The lists of the other classes are found beside it.
    """
    refuse_column(source, options)
    match = HMDB_LIST.fullmatch(source.name)
    assert match is not None
    ending = f"_test_split{match['fold']}.txt"
    files = sorted(source.parent.glob(f"*{ending}")) if options.need_labels else [source]
    samples = []
    for file in files:
        label = file.name[: -len(ending)]
        for number, text in enumerate(lines_of(read_text(file)), start=1):
            if not text.strip():
                continue
            fields = re.fullmatch(r"(.*\S)\s+([012])", text.strip())
            if fields is None:
                raise DatasetError(f"{file}, line {number}: expected 'video.avi 0', '... 1' or '... 2', got {text!r}")
            name = f"{label}/{fields[1]}"
            split = {"0": "unused", "1": "train", "2": "test"}[fields[2]]
            samples.append(
                Sample(path=options.root / name, name=name, labels=(label,), split=split, line=number, file=file)
            )
    return Rows(samples=samples)
