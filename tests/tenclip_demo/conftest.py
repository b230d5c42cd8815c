"""The exported bundle of the tests of tenclip_export serves here too."""

from tests.tenclip_export.conftest import bundle, model, rows, spec

__all__ = ["bundle", "model", "rows", "spec"]
