from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tenclip_serving.api.health import NOT_SERVING, SERVING, statuses
from tenclip_serving.models.manager import with_failure, without
from tenclip_serving.models.repository import FailedBundle, Repository, load_repository
from tests.tenclip_serving.helpers import make_bundle

SERVICES = ("our.Service",)


def test_statuses(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    make_bundle(tmp_path, "tiny", "2")
    repository = load_repository(tmp_path, runtime="onnxruntime", threads=1)
    versions = {"tiny": SERVING, "tiny/1": SERVING, "tiny/2": SERVING}
    overall = {"": SERVING, "our.Service": SERVING}
    assert statuses(repository, SERVICES) == versions | overall
    # A failure beside a copy that is served harms nothing; one of another version or model is told.
    failing = with_failure(repository, FailedBundle(name="tiny", version="2", error="why"))
    failing = with_failure(failing, FailedBundle(name="tiny", version="3", error="why"))
    failing = with_failure(failing, FailedBundle(name="other", version="1", error="why"))
    failed = {"tiny/3": NOT_SERVING, "other": NOT_SERVING, "other/1": NOT_SERVING}
    assert statuses(failing, SERVICES) == versions | overall | failed
    # The default version decides for the model.
    pinned = replace(without(repository, [("tiny", "1")]), pins={"tiny": "1"})
    assert statuses(pinned, SERVICES) == {"tiny": NOT_SERVING, "tiny/2": SERVING} | overall
    assert statuses(Repository(), SERVICES) == {"": NOT_SERVING, "our.Service": NOT_SERVING}


def test_a_model_named_like_a_service_does_not_speak_for_it(tmp_path: Path) -> None:
    make_bundle(tmp_path, "our.Service", "1")
    repository = load_repository(tmp_path, runtime="onnxruntime", threads=1)
    assert statuses(replace(repository, pins={"our.Service": "9"}), SERVICES)["our.Service"] == SERVING
