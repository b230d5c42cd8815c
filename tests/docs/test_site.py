"""`make docs`: the site builds without a warning, whole and without anything from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="pip install 'tenclip[docs]'")
    pytest.importorskip("mkdocstrings", reason="pip install 'tenclip[docs]'")
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=800, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def test_every_page_is_there(site: Path) -> None:
    pages = {p.relative_to(PROJECT / "docs").with_suffix(".html") for p in (PROJECT / "docs").rglob("*.md")}
    assert pages <= {p.relative_to(site) for p in site.rglob("*.html")}
    assert not list(site.rglob("*.py")), "sources of the hooks are no pages"


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text):
            assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", tag), f"{page.name}: {tag}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("tenclip_client", ["Client", "Client.predict", "Client.extract_features", "AsyncClient"]),
        ("tenclip_training", ["load_checkpoint", "train", "TrainConfig", "create_model"]),
        ("tenclip_training_labels", ["relevant_hashtags", "match_labels", "LabelSpace", "write_subset"]),
        ("tenclip_export", ["export_bundle", "export_torchserve", "export_triton"]),
        ("tenclip_video", ["spec.ClipSpec", "clips.read_clips", "protocols.Protocol", "bundle.read_bundle"]),
        ("tenclip_data", ["manifest.read_manifest", "samples.Sample"]),
        ("tenclip_features", ["read_features", "probe.fit_probe", "linear.Probe", "knn.KnnClassifier"]),
        ("tenclip_index", ["open_index", "index.Index", "build.build_index", "results.Neighbour"]),
    ],
)
def test_the_reference_has_what_people_import(site: Path, page: str, names: list[str]) -> None:
    text = (site / "api" / f"{page}.html").read_text(encoding="utf-8")
    for name in names:
        assert f'id="{page.replace("_training_", "_training.")}.{name}"' in text, name


def test_the_tree_of_errors_is_a_drawing(site: Path) -> None:
    text = (site / "api" / "tenclip_client.html").read_text(encoding="utf-8")
    assert 'id="tenclip_api.errors.VideoError"' in text
    assert "|   |-- VideoNotFound            NOT_FOUND" in re.sub(r"<[^>]+>", "", text)


def test_doctests_are_code(site: Path) -> None:
    text = (site / "api" / "tenclip_video.html").read_text(encoding="utf-8")
    assert '<span class="gp">&gt;&gt;&gt; </span>' in text
    assert "<blockquote>\n<blockquote>\n<blockquote>" not in text, "a doctest became a quotation"
