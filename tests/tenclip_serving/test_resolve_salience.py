from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.models.samplers import load_served_sampler
from tenclip_serving.requests import ClipRequest
from tenclip_serving.resolve_salience import has_independent_classes, resolve_salience
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_video.bundle import read_bundle
from tenclip_video.salience import StoppingRule
from tests.tenclip_serving.helpers import LOOSER, RULE, SAMPLER_SPEC, SPEC, STRICTER, Sampler, make_bundle

SIGMOIDS = {"config": {"objective": {"loss": "softmax+sigmoid"}}}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """`ruled` has a stopping rule, `several` has three, `loose` one but no default, `scored` a sampler alone, `plain`
    nothing, `longer` a sampler for other clips.
    """
    root = tmp_path_factory.mktemp("models")
    paths = [
        make_bundle(root, "ruled", "1", sampler=Sampler(stopping=RULE)),
        make_bundle(root, "ruled", "2", sampler=Sampler(weights=(1.0, 0.0, 0.0), stopping=RULE)),
        make_bundle(root, "scored", sampler=Sampler()),
        make_bundle(root, "plain"),
        make_bundle(
            root,
            "longer",
            spec=replace(SPEC, frame_stride=2),
            sampler=Sampler(spec=replace(SAMPLER_SPEC, clip_span=7)),
        ),
        make_bundle(root, "tags", sampler=Sampler(stopping=RULE), provenance=SIGMOIDS),
        make_bundle(root, "several", sampler=Sampler(stopping=RULE, other_stopping=(LOOSER, STRICTER))),
        make_bundle(root, "loose", sampler=Sampler(other_stopping=(LOOSER,))),
        make_bundle(root, "backbone", labels=(), sampler=Sampler(stopping=RULE)),
    ]
    models: dict[str, dict[str, ServedModel]] = {}
    for path in paths:
        bundle = read_bundle(path)
        model = ServedModel(
            bundle=bundle, runtime=FakeRuntime(), runtime_reason="tests", sampler=load_served_sampler(bundle)
        )
        models.setdefault(model.name, {})[model.version] = model
    return Repository(models)


def test_the_models_own_sampler_unless_another_is_named(repository: Repository) -> None:
    ruled = repository.get("ruled")
    own = resolve_salience(ClipRequest(), ruled, repository)
    assert own.sampler is ruled.sampler is not None
    assert own.stopping is None
    assert resolve_salience(ClipRequest(sampler="motion-energy"), ruled, repository).sampler is None
    assert resolve_salience(ClipRequest(), repository.get("plain"), repository).sampler is None
    # By its name it is the model's own still.
    named = resolve_salience(ClipRequest(sampler="ruled/2", adaptive=True), ruled, repository)
    assert (named.sampler, named.stopping) == (ruled.sampler, RULE)


def test_samplers_are_borrowed_by_name_and_version(repository: Repository) -> None:
    plain = repository.get("plain")
    for name, version in (("ruled", "2"), ("ruled/1", "1"), ("scored", "1")):
        borrowed = resolve_salience(ClipRequest(sampler=name), plain, repository)
        assert borrowed.sampler is repository.get(name.partition("/")[0], version).sampler
    other = resolve_salience(ClipRequest(sampler="ruled/1"), repository.get("ruled", "2"), repository)
    assert other.sampler is repository.get("ruled", "1").sampler


KNOWN = (
    "this server has the samplers motion-energy, backbone/1, longer/1, loose/1, ruled/2, ruled/1, scored/1, several/1, "
    "tags/1"
)


@pytest.mark.parametrize(
    ("model", "asked", "says"),
    [
        ("plain", {"sampler": "absent"}, f"no sampler 'absent': no model 'absent'; .*; {KNOWN}"),
        ("plain", {"sampler": "ruled/3"}, f"no sampler 'ruled/3': model 'ruled' has no version '3'; .*; {KNOWN}"),
        ("plain", {"sampler": "/1"}, f"no sampler '/1': write NAME or NAME/VERSION of a model; {KNOWN}"),
        ("ruled", {"sampler": "plain"}, f"model plain/1 has no sampler; {KNOWN}"),
        (
            "plain",
            {"sampler": "longer"},
            r"the sampler of longer/1 does not fit: .*salience\.onnx: this sampler was trained for clips of 7 frames .*"
            "the model takes clips of 4 frames",
        ),
        ("plain", {"adaptive": True}, "model plain/1 has no sampler, and so no stopping rule; ask without adaptive"),
        ("scored", {"adaptive": True}, "model scored/1 has a sampler without a stopping rule; ask without adaptive"),
        ("plain", {"adaptive": True, "sampler": "ruled"}, "model plain/1 has no sampler, and so no stopping rule"),
        (
            "ruled",
            {"adaptive": True, "sampler": "scored"},
            "the stopping rule of ruled/2 was calibrated on clips that its own sampler chose, and does not hold for "
            "those of 'scored'; leave out the sampler, or adaptive",
        ),
        ("ruled", {"adaptive": True, "sampler": "ruled/1"}, "does not hold for those of 'ruled/1'"),
        ("ruled", {"adaptive": True, "sampler": "motion-energy"}, "does not hold for those of 'motion-energy'"),
        (
            "several",
            {"adaptive": True, "error_bound": 0.3},
            r"model several/1 has no stopping rule with the error bound 0\.3; it has 0\.02, 0\.05, 0\.2 "
            r"\(0\.05 where a request names none\)",
        ),
        ("several", {"adaptive": True, "error_bound": float("nan")}, "no stopping rule with the error bound nan"),
        ("several", {"adaptive": True, "error_bound": -1.0}, "no stopping rule with the error bound -1"),
        ("several", {"error_bound": 0.2}, r"error_bound 0\.2 is of adaptive prediction, which was not asked for"),
        (
            "loose",
            {"adaptive": True},
            r"no stopping rule for the error bound .* names none; name one that it has: 0\.2",
        ),
        ("tags", {"adaptive": True}, "model tags/1 was trained with a sigmoid for each class"),
        ("backbone", {"adaptive": True}, "model backbone/1 has no classifier"),
    ],
)
def test_what_is_refused(repository: Repository, model: str, asked: Mapping[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        resolve_salience(ClipRequest(**asked), repository.get(model), repository)


def test_a_request_chooses_the_rule_by_its_error_bound(repository: Repository) -> None:
    def rule_of(model: str, error_bound: float = 0.0) -> StoppingRule | None:
        asked = ClipRequest(adaptive=True, error_bound=error_bound)
        return resolve_salience(asked, repository.get(model), repository).stopping

    assert rule_of("several") == rule_of("several", 0.05) == RULE
    assert [rule_of("several", bound) for bound in (0.02, 0.2)] == [STRICTER, LOOSER]
    assert rule_of("loose", 0.2) == LOOSER
    assert rule_of("ruled", 0.05) == RULE


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        (SIGMOIDS, True),
        ({}, False),
        ({"config": None}, False),
        ({"config": {"objective": "sigmoid"}}, False),
        ({"config": {"objective": {"loss": "softmax"}}}, False),
    ],
)
def test_sigmoids_are_told_from_the_bundle(tmp_path: Path, provenance: dict[str, Any], expected: bool) -> None:
    info = read_bundle(make_bundle(tmp_path, provenance=provenance)).info
    assert has_independent_classes(info) == expected
