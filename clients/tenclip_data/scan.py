"""The one scanner of folders for video files, shared by every command that is given a folder.

Rules, the same for features, prediction, training, evaluation, probes and benchmarks:

- A file counts by its suffix (`VIDEO_SUFFIXES`), whatever its letter case.
- Hidden files and folders (names that begin with a dot, `._clip.avi` among them) and those that operating systems,
  archives and network storage leave behind (`SYSTEM_NAMES`) are never data. The folder that is named itself is always
  searched, whatever it is called.
- Symbolic links to files and folders are followed. Each real folder is searched once, under the first name that leads
  to it, so links that form a loop end. A file counts once for each of its names.
- What cannot be listed is reported beside the videos, and so are tar files, never passed over in silence.
- Names keep all their bytes: `os.fsencode(path)` gives what the file system holds, valid UTF-8 or not.

Standard library and `tenclip_data` only: client, server and training import it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_data.wording import some_of

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)

# Images are data only where a caller asks for them.
IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_TAR = ".tar"
_PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
# What `os.path.splitext` says of tar files; other packed files end so, too.
TAR_ENDINGS = frozenset({_TAR, *("." + suffix.rpartition(".")[2] for suffix in _PACKED_TARS)})

# Compared in lower case. Hidden names (.DS_Store, .ipynb_checkpoints, .Trashes) need no entry.
SYSTEM_NAMES = frozenset(
    {
        "__macosx",  # zip archives made on macOS
        "network trash folder",
        "temporary items",
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "lost+found",  # ext4
        "@eadir",  # Synology
        "#recycle",
        "#snapshot",
        "@tmp",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "__pycache__",
    }
)
# Errors of a link that leads nowhere: there is nothing to search behind it.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class ScanProblem:
    """A folder that could not be searched, and why (`reason`, in the operating system's words)."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{printable_name(self.path)}: cannot be listed: {self.reason}"


@dataclass(frozen=True)
class Scan:
    """The videos below a folder, in order, the folders that could not be searched, and tar files, packed ones too."""

    videos: tuple[Path, ...]
    problems: tuple[ScanProblem, ...] = ()
    tars: tuple[Path, ...] = ()

    def notes(self, folder: Path) -> list[str]:
        """What a person should know of `folder` where only its video files are read."""
        return [*map(str, self.problems), *tar_notes(folder, self.tars)]


def scan_folder(folder: str | os.PathLike[str], *, suffixes: Collection[str] = VIDEO_SUFFIXES) -> Scan:
    """Find the video files below `folder`, by the rules of this module.

    Paths begin with `folder` as it was given. The order is stable: in each folder its own files come first, by name,
    then its sub-folders, by name (names are compared byte by byte).
    suffixes: in lower case, with the dot. Never raises OSError: what cannot be listed is in `problems`.

    ::

        scan = scan_folder("clips")
        for problem in scan.problems:
            print(problem)
        print(len(scan.videos), "videos")
    """
    videos: list[Path] = []
    problems: list[ScanProblem] = []
    tars: list[Path] = []
    searched: set[tuple[int, int] | str] = set()
    pending = [Path(folder)]
    while pending:
        current = pending.pop()
        try:
            identity = _identity(current)
            if identity in searched:
                continue
            searched.add(identity)
            files, folders, unknown = _list(current)
        except OSError as err:
            problems.append(ScanProblem(current, err.strerror or str(err)))
            continue
        videos += [current / name for name in files if os.path.splitext(name)[1].lower() in suffixes]
        tars += [current / name for name in files if is_tar(name)]
        problems += unknown
        pending += [current / name for name in reversed(folders)]
    return Scan(tuple(videos), tuple(problems), tuple(tars))


def is_packed_tar(name: str) -> bool:
    """By its suffix: a tar file that is compressed, so that no part of it can be read by itself."""
    return name.lower().endswith(_PACKED_TARS)


def is_tar(name: str) -> bool:
    """By its suffix: a tar file, packed or not."""
    return name.lower().endswith(_TAR) or is_packed_tar(name)


def tar_notes(folder: Path, tars: Sequence[Path]) -> list[str]:
    """That videos in tar files of `folder` are not used, and what reads them; nothing where there are no such files."""
    if not tars:
        return []
    names = some_of(printable_name(tar.name) for tar in tars)
    unpacked = ", once packed ones are unpacked to .tar" if any(is_packed_tar(tar.name) for tar in tars) else ""
    return [
        f"{printable_name(folder)}: videos in tar files are not used ({names}); `tenclip batch` reads them, "
        f"and training does after `tenclip shards index`{unpacked}"
    ]


def data_folders(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The folders directly below `folder`, links to folders included, without hidden and system ones, by name.

    For layouts in which a folder's name means something (a class, a split). Raises OSError where it cannot be listed.
    """
    _, folders, _ = _list(Path(folder))
    return tuple(Path(folder) / name for name in folders)


def is_data_name(name: str) -> bool:
    """True for the name of a file or folder that may be data: neither hidden nor in `SYSTEM_NAMES`.

    >>> is_data_name("run.mp4"), is_data_name("._run.mp4"), is_data_name("__MACOSX")
    (True, False, False)
    """
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def printable_name(path: str | os.PathLike[str]) -> str:
    r"""A path as text that every encoder takes, different for different paths.

    File names may hold bytes that are not valid UTF-8; each is written as `\x` and two hexadecimal digits. Where a name
    itself holds such a sequence, its backslashes are doubled, so that no two names look the same.

    >>> printable_name("caf\udce9.mp4"), printable_name("clip.mp4")
    ('caf\\xe9.mp4', 'clip.mp4')
    """
    text = os.fsdecode(path)
    with contextlib.suppress(UnicodeEncodeError):  # half of a UTF-16 pair: no file system's doing
        text = os.fsencode(text).decode("utf-8", errors="surrogateescape")
    if os.sep != "\\":
        text = _LOOKS_ESCAPED.sub(lambda found: 2 * found[0], text)
    text = _NOT_UTF8.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


_NOT_UTF8 = re.compile("[\udc80-\udcff]")
# Backslashes before a byte that is about to be escaped, or before what would look like one that was.
_LOOKS_ESCAPED = re.compile(r"\\+(?=x[89a-f][0-9a-f]|[\udc80-\udcff])")


def _list(folder: Path) -> tuple[list[str], list[str], list[ScanProblem]]:
    """(names of files, names of folders, links whose end cannot be looked at); by name, without what is never data."""
    files: list[str] = []
    folders: list[str] = []
    problems: list[ScanProblem] = []
    with os.scandir(folder) as entries:
        for entry in sorted((e for e in entries if is_data_name(e.name)), key=lambda e: os.fsencode(e.name)):
            try:
                is_folder = entry.is_dir()
            except OSError as err:
                is_folder = False
                if err.errno not in _NOWHERE:
                    problems.append(ScanProblem(folder / entry.name, err.strerror or str(err)))
                    continue
            (folders if is_folder else files).append(entry.name)
    return files, folders, problems


def _identity(folder: Path) -> tuple[int, int] | str:
    """Equal for two names of one folder."""
    status = os.stat(folder)
    # Some network file systems number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)
