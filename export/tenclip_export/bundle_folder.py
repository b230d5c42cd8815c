"""The folder of a bundle on disk, `OUT/NAME/VERSION`: made beside its place, and renamed when it is complete.

A server that watches the folder therefore sees a whole bundle or none, and an export that fails or is killed leaves
nothing that counts as a version.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tenclip_api.errors import BundleError
from tenclip_video.bundle import NAME_PATTERN, BundleInfo


@contextlib.contextmanager
def staging(home: Path, name: str) -> Iterator[Path]:
    """A hidden directory in `home` to build a bundle in. It is removed at the end unless `publish` renamed it.

    `home` is removed as well where it was created here and stayed empty.
    Raises BundleError for a `name` that no bundle can have, and for a directory that cannot be written.
    """
    _check_name("bundle name", name)
    created = not home.exists()
    stage: Path | None = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        stage = hidden_folder(home, "incomplete")
        yield stage
    except OSError as err:
        raise BundleError(f"{home}: the bundle cannot be written: {err}") from err
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if created:
            with contextlib.suppress(OSError):
                home.rmdir()


def choose_version(home: Path, version: str | None, *, overwrite: bool) -> str:
    """`version`, or the next free integer for None. Raises BundleError for one that exists, unless `overwrite`."""
    if version is None:
        return next_version(home)
    _check_name("version", version)
    if (home / version).exists() and not overwrite:
        raise BundleError(
            f"{home / version} exists; give another --version, or --overwrite to replace it "
            f"(the next free version is {next_version(home)})"
        )
    return version


def next_version(home: Path) -> str:
    """One more than the highest integer version in the directory of a model; "1" where there is none."""
    numbers = [int(p.name) for p in home.iterdir() if p.name.isdecimal()] if home.is_dir() else []
    return str(max(numbers, default=0) + 1)


def publish(stage: Path, home: Path, info: BundleInfo, *, automatic: bool, overwrite: bool) -> Path:
    """Write `bundle.json`, flush everything to disk and rename `stage` to `home/VERSION`; returns that path.

    automatic: nobody asked for this version, so one that was taken meanwhile is replaced by the next free one.
    Raises BundleError where a version that was asked for appeared meanwhile.
    """
    while True:
        (stage / "bundle.json").write_text(json.dumps(info.to_dict(), indent=2) + "\n", encoding="utf-8")
        _fsync_tree(stage)
        target = home / info.version
        try:
            if overwrite and target.exists():
                replace_folder(stage, target)
            else:
                stage.rename(target)
        except OSError as err:
            if not target.exists():
                raise
            if not automatic:
                raise BundleError(f"{target} appeared while this bundle was being made; nothing was replaced") from err
            info = replace(info, version=next_version(home))
            continue
        _fsync(home)
        return target


def replace_folder(stage: Path, target: Path) -> None:
    """Put `stage` in the place of `target`, which is there; the old one comes back if that fails."""
    aside = hidden_folder(target.parent, "replaced")
    target.rename(aside / target.name)
    try:
        stage.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def hidden_folder(home: Path, purpose: str) -> Path:
    """A new directory that no server takes for a version. (tempfile would make it unreadable for other users.)"""
    path = home / f".{purpose}-{secrets.token_hex(8)}"
    path.mkdir()
    return path


def _check_name(what: str, name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise BundleError(f"{what} {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit")


def _fsync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        _fsync(path)
    _fsync(root)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
