"""Custom kinds against the schemas that their projects publish in custom resource definitions (`crds/` of the data).

A definition holds an OpenAPI v3 schema with Kubernetes' extensions. It becomes a strict JSON schema: a field that it
does not name is an error, where an API server would drop it or warn. Not checked: CEL rules
(`x-kubernetes-validations`), which only an API server evaluates, and formats of strings. Source: Kubernetes'
documentation of structural schemas, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.k8s.manifests import Manifest

# What every object of Kubernetes may have as metadata when it is applied.
_METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "generateName": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array"},
    },
    "additionalProperties": False,
}
_KEPT = (
    *("enum", "pattern", "format", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "multipleOf"),
)
_LOGIC = ("allOf", "anyOf", "oneOf")


def find_crd_problems(manifest: Manifest, folder: Path) -> list[str]:
    """What the definition in `folder` has against a manifest, a line each, with the place of it.

    Skips the test where there is no folder, or no definition of the kind in it.
    """
    group, _, version = manifest["apiVersion"].partition("/")
    validator = _validator(crd_file(folder, group, manifest["kind"]), version)
    found = sorted(validator.iter_errors(manifest), key=lambda error: list(map(str, error.absolute_path)))
    return [f"{'/'.join(map(str, error.absolute_path)) or '.'}: {error.message[:200]}" for error in found]


def crd_file(folder: Path, group: str, kind: str) -> Path:
    if not folder.is_dir():
        pytest.skip(f"no custom resource definitions at {folder}")
    path = folder / f"{group}_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"no definition of {kind} of {group} in {folder}")
    return path


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema of Kubernetes as a JSON schema that refuses fields which are not in it."""
    made = {key: schema[key] for key in _KEPT if key in schema}
    for key in ("minimum", "maximum"):  # booleans in OpenAPI 3.0, numbers in JSON schema
        exclusive = f"exclusive{key.capitalize()}"
        if made.get(exclusive) is True:
            made[exclusive] = made.pop(key)
        else:
            made.pop(exclusive, None)
    # Their branches only narrow: types and names of fields are those of the schema around them.
    made |= {key: schema[key] for key in (*_LOGIC, "not") if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    elif "type" in schema:
        made["type"] = schema["type"]
    if "items" in schema:
        made["items"] = strict(schema["items"])
    if schema.get("type") == "object" or "properties" in schema:
        made |= _object(schema)
    return _nullable(made) if schema.get("nullable") else made


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {name: strict(value) for name, value in schema.get("properties", {}).items()}
    if schema.get("x-kubernetes-embedded-resource"):
        properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _METADATA}
    others: Any = schema.get("additionalProperties", False)
    if isinstance(others, dict):
        others = strict(others)
    return {
        "properties": properties,
        "additionalProperties": others or bool(schema.get("x-kubernetes-preserve-unknown-fields")),
    }


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "null"}, schema]}


@cache
def _definition(path: Path) -> dict[str, Any]:
    # The largest has two megabytes: the parser in C, and once.
    documents: list[dict[str, Any]] = [d for d in yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader) if d]
    (definition,) = documents
    return definition


@cache
def _validator(path: Path, version: str) -> Draft202012Validator:
    spec = _definition(path)["spec"]
    served = {v["name"]: v["schema"]["openAPIV3Schema"] for v in spec["versions"] if v["served"]}
    assert version in served, f"{spec['names']['kind']} of {spec['group']} is served as {sorted(served)}, not {version}"
    schema = strict(served[version])
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _METADATA}
    return Draft202012Validator(schema)
