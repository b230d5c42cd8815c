"""Which network it is: a stopping rule and a temperature hold for the one that they were calibrated with; no torch."""

from __future__ import annotations

from tenclip_video.bundle import BundleInfo


def identity_of(bundle: BundleInfo) -> str:
    """ "ARCHITECTURE HASH" of a bundle's float32 network, the same wherever the bundle is."""
    variant = next((v for v in bundle.variants if v.name == "fp32"), bundle.variants[0])
    return f"{bundle.architecture} {variant.files[variant.path][:16]}"
