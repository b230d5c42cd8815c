"""Manifests of custom kinds against the definitions that their projects publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.k8s.crds import find_crd_problems, strict
from tests.k8s.edits import edited
from tests.k8s.manifests import is_custom, label, source_manifests

CUSTOM = {label(m): m for m in source_manifests() if is_custom(m)}
# No definition of these is in the data; tests/k8s/test_components.py compares their fields with the documented ones.
WITHOUT_DEFINITION = {"cert-manager.io"}


@pytest.fixture(scope="session")
def crds(data_dir: Path) -> Path:
    return data_dir / "crds"


@pytest.mark.parametrize(
    "name", [name for name, m in CUSTOM.items() if m["apiVersion"].partition("/")[0] not in WITHOUT_DEFINITION]
)
def test_a_manifest_is_what_its_definition_says(name: str, crds: Path) -> None:
    assert find_crd_problems(CUSTOM[name], crds) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "problem"),
    [
        ("ServiceMonitor/tenclip", "spec/endpoints/0/intervall", "15s", "'intervall' was unexpected"),
        ("ServiceMonitor/tenclip", "spec/endpoints/0/interval", 15, "spec/endpoints/0/interval: 15 is not of type"),
        ("ServiceMonitor/tenclip", "spec/endpoints/0/interval", "15 s", "does not match"),
        ("ServiceMonitor/tenclip", "spec/selector", None, "'selector' is a required property"),
        ("ServiceMonitor/tenclip", "metadata/lables", {}, "'lables' was unexpected"),
        ("PrometheusRule/tenclip", "spec/groups/0/rules/0/alerts", "x", "'alerts' was unexpected"),
        ("PrometheusRule/tenclip", "spec/groups/0/rules/0/expr", ["up"], "is not of type"),
        ("ClusterServingRuntime/tenclip", "spec/containers/0/port", [], "'port' was unexpected"),
        ("RayJob/tenclip-ray", "spec/rayClusterSpec/authOptions/mode", "tokens", "'tokens' is not one of"),
        ("RayJob/tenclip-ray", "spec/authOptions", {"mode": "token"}, "'authOptions' was unexpected"),
        ("InferenceService/moves", "spec/predictor/scaleMetric", "queue", "'queue' is not one of"),
        ("InferenceService/moves", "spec/predictor/model/storageURI", "s3://a/b", "'storageURI' was unexpected"),
    ],
)
def test_a_mistake_is_noticed(name: str, path: str, value: object, problem: str, crds: Path) -> None:
    problems = find_crd_problems(edited(CUSTOM[name], path, value), crds)
    assert any(problem in line for line in problems), problems


def test_a_version_that_is_not_served_is_noticed(crds: Path) -> None:
    with pytest.raises(AssertionError, match="is served as"):
        find_crd_problems(CUSTOM["ServiceMonitor/tenclip"] | {"apiVersion": "monitoring.coreos.com/v2"}, crds)


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        pytest.param({"type": "object"}, {"a": 1}, False, id="no fields at all"),
        pytest.param({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"a": 1}, True, id="preserved"),
        pytest.param({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "b"}, True, id="a map"),
        pytest.param({"type": "object", "additionalProperties": {"type": "string"}}, {"a": 1}, False, id="map of text"),
        pytest.param({"type": "object", "additionalProperties": {"type": "object"}}, {"a": {"b": 1}}, False, id="deep"),
        pytest.param({"x-kubernetes-int-or-string": True}, 3, True, id="int or string, 3"),
        pytest.param({"x-kubernetes-int-or-string": True}, "3%", True, id="int or string, 3%"),
        pytest.param({"x-kubernetes-int-or-string": True}, 3.5, False, id="int or string, 3.5"),
        pytest.param({"type": "string", "nullable": True, "enum": ["a"]}, None, True, id="nullable"),
        pytest.param({"type": "string", "enum": ["a"]}, None, False, id="not nullable"),
        pytest.param(
            {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"nam": "x"}},
            False,
            id="metadata of an embedded resource",
        ),
        pytest.param({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0, False, id="exclusive"),
        pytest.param({"type": "number", "minimum": 0, "exclusiveMinimum": False}, 0, True, id="inclusive"),
        pytest.param({"type": "array", "items": {"type": "object"}}, [{"a": 1}], False, id="items"),
    ],
)
def test_kubernetes_extensions_become_json_schema(schema: dict[str, Any], value: object, valid: bool) -> None:
    made = strict(schema)
    Draft202012Validator.check_schema(made)
    assert Draft202012Validator(made).is_valid(value) is valid
