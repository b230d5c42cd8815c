"""Export: bundles that `tenclip serve` serves, checked against torch, and what TorchServe and Triton read.

>>> from tenclip_export import export_bundle

Nothing here is loaded before it is asked for: torch takes seconds, and a handler of TorchServe does without.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenclip_export.bundle_writer import export_bundle as export_bundle
    from tenclip_export.torchserve.archive import TorchServeSettings as TorchServeSettings
    from tenclip_export.torchserve.archive import export_torchserve as export_torchserve
    from tenclip_export.triton import TritonSettings as TritonSettings
    from tenclip_export.triton import export_triton as export_triton

__all__ = ["export_bundle", "export_torchserve", "TorchServeSettings", "export_triton", "TritonSettings"]

_MODULES = {
    "export_bundle": "bundle_writer",
    "export_torchserve": "torchserve.archive",
    "TorchServeSettings": "torchserve.archive",
    "export_triton": "triton",
    "TritonSettings": "triton",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
