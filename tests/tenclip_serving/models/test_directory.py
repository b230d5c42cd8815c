from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tenclip_serving.models.directory import find_bundles
from tenclip_serving.models.repository import load_repository
from tests.tenclip_serving.helpers import make_bundle


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """As a storage initializer leaves a bundle: its files, in a folder whose name says nothing."""
    folder = tmp_path / "mnt" / "models"
    shutil.copytree(make_bundle(tmp_path / "made", "tiny", "2"), folder)
    return folder


@pytest.mark.parametrize(("name", "served_as"), [("", "tiny"), ("moves", "moves")])
def test_a_directory_that_is_a_bundle(flat: Path, name: str, served_as: str) -> None:
    assert find_bundles(flat, name).bundles == {(served_as, "2"): flat}
    model = load_repository(flat, runtime="onnxruntime", threads=1, name=name).get()
    assert (model.name, model.version) == (served_as, "2")
    assert model.bundle.path == flat


def test_a_name_for_the_versions_of_one_model(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    make_bundle(tmp_path, "tiny", "2")
    (tmp_path / "tiny" / ".cache").mkdir()
    repository = load_repository(tmp_path / "tiny", runtime="onnxruntime", threads=1, name="moves")
    assert [(m.name, m.version) for m in repository] == [("moves", "2"), ("moves", "1")]


def test_a_version_that_its_file_denies(tmp_path: Path) -> None:
    shutil.move(make_bundle(tmp_path, "tiny", "1"), tmp_path / "tiny" / "7")
    (failure,) = load_repository(tmp_path / "tiny", runtime="onnxruntime", name="moves").failed
    assert (failure.name, failure.version) == ("moves", "7")
    assert "bundle.json says tiny/1" in failure.error


@pytest.mark.parametrize("content", ["", "[]", '{"name": "x"}', "{"])
def test_a_flat_bundle_whose_file_is_none(flat: Path, content: str) -> None:
    (flat / "bundle.json").write_text(content)
    (failure,) = load_repository(flat, runtime="onnxruntime", name="moves").failed
    assert (failure.name, failure.version) == ("moves", "")
    assert failure.error == f"{flat / 'bundle.json'}: not a bundle's, without its name and version"
