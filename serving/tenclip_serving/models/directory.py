"""Which bundles a server's directory holds: NAME/VERSION of many models, or those of the one that `--name` names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tenclip_video.bundle import NAME_PATTERN

Key = tuple[str, str]  # NAME, VERSION
BUNDLE_FILE = "bundle.json"


@dataclass(frozen=True, kw_only=True)
class FoundBundles:
    """bundles: their directories, by name and version. unreadable: by name, why its versions cannot be listed."""

    bundles: Mapping[Key, Path]
    unreadable: Mapping[str, str]


def find_bundles(root: Path, name: str = "") -> FoundBundles:
    """The bundles in `root`, sorted. Raises OSError for `root` alone.

    - `root` is a bundle itself, as KServe's storage initializer leaves one: that one, as `name`; an empty name is its
      own.
    - With a name: every directory VERSION in `root` is a version of it.
    - Otherwise: every directory NAME/VERSION. Names that no bundle can have (`lost+found` and `.snapshot` of a mounted
      volume) are passed over unread.
    """
    if (root / BUNDLE_FILE).is_file():
        return _flat(root, name)
    if name:
        versions = _versions(root)
        return FoundBundles(bundles={(name, path.name): path for path in versions}, unreadable={})
    bundles: dict[Key, Path] = {}
    unreadable: dict[str, str] = {}
    for folder in sorted(root.iterdir()):
        if not NAME_PATTERN.fullmatch(folder.name):
            continue
        try:
            bundles |= {(folder.name, path.name): path for path in _versions(folder)}
        except OSError as err:
            unreadable[folder.name] = f"{folder}: cannot be read: {err.strerror or err}"
    return FoundBundles(bundles=bundles, unreadable=unreadable)


def no_bundles(root: Path, name: str = "") -> str:
    """What to do about a directory without any bundle."""
    if name:
        return (
            f"{root} holds neither {BUNDLE_FILE} nor VERSION/{BUNDLE_FILE}, one of which the name {name!r} is for; "
            "without a name, directories NAME/VERSION are served"
        )
    if any(root.glob(f"*/{BUNDLE_FILE}")):
        return f"{root} holds the versions of one model; serve its parent directory, or say its name (--name)"
    return f"{root} has no NAME/VERSION/{BUNDLE_FILE}; `tenclip export` writes such directories"


def _flat(root: Path, name: str) -> FoundBundles:
    """The bundle that `root` itself is. Its version is in its file; one that has none is listed as unreadable."""
    path = root / BUNDLE_FILE
    try:
        said = json.loads(path.read_bytes())
        own, version = str(said["name"]), str(said["version"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        if isinstance(err, OSError):
            why = f"cannot be read: {err.strerror or err}"
        else:
            why = "not a bundle's, without its name and version"
        return FoundBundles(bundles={}, unreadable={name or root.name: f"{path}: {why}"})
    return FoundBundles(bundles={(name or own, version): root}, unreadable={})


def _versions(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(v for v in folder.iterdir() if NAME_PATTERN.fullmatch(v.name) and v.is_dir())
