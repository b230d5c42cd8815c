"""The catalog of architectures: family, input, cost at that input, published accuracy, source."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tenclip_training.loaders import presets
from tenclip_training.loaders.presets import Preset
from tenclip_training.models import ARCHITECTURES
from tenclip_training.models.cost import cost
from tenclip_video.spec import ClipSpec
from tenclip_video.wording import clip_in_words

# Which inputs an architecture's public weights were trained on. Architectures without public weights have none.
ARCHITECTURE_PRESETS: dict[str, tuple[Preset, ...]] = {
    "torchvision_r2plus1d_18": (presets.TORCHVISION,),
    "torchvision_r3d_18": (presets.TORCHVISION,),
    "torchvision_mc3_18": (presets.TORCHVISION,),
    **{f"r2d_{depth}": (presets.TORCHVISION_2D,) for depth in (18, 34, 50, 101, 152)},
    "r2plus1d_34": (presets.VMZ_8F, presets.VMZ_32F, presets.IG65M_8F, presets.IG65M_32F),
    "r2plus1d_152": (presets.VMZ,),
    "ir_csn_50": (presets.MMACTION2_32X2,),
    "ir_csn_152": (presets.VMZ_CSN, presets.MMACTION2_32X2, presets.MMACTION2_VMZ_32X2),
    "ip_csn_152": (presets.VMZ_CSN, presets.MMACTION2_32X2, presets.MMACTION2_VMZ_32X2),
    **{
        f"resnets3d_r3d_{depth}": (presets.RESNETS3D_2018, presets.RESNETS3D_2020)
        for depth in (18, 34, 50, 101, 152, 200)
    },
    **{f"resnets3d_r2plus1d_{depth}": (presets.RESNETS3D_2020,) for depth in (18, 34, 50, 101, 152, 200)},
    "mmaction2_r2plus1d_34": (presets.MMACTION2_8X8, presets.MMACTION2_32X2),
    "slowonly_r50": (presets.MMACTION2_4X16, presets.MMACTION2_8X8),
    "slowonly_r101": (presets.MMACTION2_8X8,),
    "omni_slowonly_r50": (presets.MMACTION2_8X8,),
    "tsn_r50": (presets.MMACTION2_TSN, presets.MMACTION2_TSN_8X8),
    "mmaction2_c2d_r50": (presets.MMACTION2_C2D_8X8, presets.MMACTION2_C2D_16X4),
    "mmaction2_i3d_r50": (presets.MMACTION2_I3D_32X2,),
    "mmaction2_slowfast_r50": (presets.MMACTION2_SLOWFAST_8X8, presets.MMACTION2_SLOWFAST_4X16),
    "mmaction2_slowfast_r101": (presets.MMACTION2_SLOWFAST_8X8,),
    "mmaction2_x3d_s": (presets.MMACTION2_X3D_S,),
    "mmaction2_x3d_m": (presets.MMACTION2_X3D_M,),
    "pytorchvideo_slow_r50": (presets.PYTORCHVIDEO_SLOW, presets.PYTORCHVIDEO_SLOW_4X16),
    "pytorchvideo_csn_r101": (presets.PYTORCHVIDEO_CSN,),
    "pytorchvideo_r2plus1d_r50": (presets.PYTORCHVIDEO_R2PLUS1D,),
    "pytorchvideo_c2d_r50": (presets.PYTORCHVIDEO_C2D,),
    "pytorchvideo_i3d_r50": (presets.PYTORCHVIDEO_I3D,),
    "pytorchvideo_slowfast_r50": (presets.PYTORCHVIDEO_SLOWFAST_8X8, presets.PYTORCHVIDEO_SLOWFAST_4X16),
    "pytorchvideo_slowfast_r101": (presets.PYTORCHVIDEO_SLOWFAST_8X8, presets.PYTORCHVIDEO_SLOWFAST_16X8),
    "pytorchvideo_x3d_xs": (presets.PYTORCHVIDEO_X3D_XS,),
    "pytorchvideo_x3d_s": (presets.PYTORCHVIDEO_X3D_S,),
    "pytorchvideo_x3d_m": (presets.PYTORCHVIDEO_X3D_M,),
    "pytorchvideo_x3d_l": (presets.PYTORCHVIDEO_X3D_L,),
    "i3d": (presets.I3D,),
    "tsn_efficientnet_lite0": (presets.EFFICIENTNET_LITE,),
    "tsn_efficientnet_lite1": (presets.EFFICIENTNET_LITE1,),
    "tsn_efficientnet_lite2": (presets.EFFICIENTNET_LITE2,),
}


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One architecture with one input, with the options that belong to it (`Preset.model`, `Preset.shapes`).

    `gmacs`: billions of multiply-adds for one clip of `clip_spec.crop` pixels.

    `preset` is None, and so are its fields, for an architecture that has no public weights.
    """

    architecture: str
    family: str
    parameters: int
    gmacs: float
    num_classes: int
    preset: str | None
    clip_spec: ClipSpec | None
    protocol: str | None
    published: str | None
    source: str | None


def catalog(architectures: list[str] | None = None) -> list[CatalogEntry]:
    """Every architecture of the zoo, or those named, by name; about 0.1 s each. Raises KeyError for an unknown one."""
    names = sorted(ARCHITECTURES) if architectures is None else architectures
    return [entry for name in names for entry in _entries(name)]


def catalog_rows() -> list[dict[str, Any]]:
    """`catalog()` as plain values with `clip`, the input in words. `tenclip models --catalog` shows them."""
    return [{**asdict(entry), "clip": _clip(entry)} for entry in catalog()]


def _clip(entry: CatalogEntry) -> str:
    """The input in words; that of the published figures where there is no preset."""
    if entry.clip_spec is not None:
        return clip_in_words(entry.clip_spec, brief=True)
    frames, side = ARCHITECTURES[entry.architecture].gmacs_at
    return f"{frames}x{side}x{side}"


def _entries(name: str) -> list[CatalogEntry]:
    architecture = ARCHITECTURES[name]
    classes = architecture.num_classes
    found = ARCHITECTURE_PRESETS.get(name, ())
    if not found:
        frames, crop = architecture.gmacs_at
        parameters, macs = cost(name, num_classes=classes, num_frames=frames, crop=crop)
        return [_entry(name, architecture.family, None, parameters, macs, classes)]
    entries = []
    for preset in found:
        spec = preset.clip_spec
        config = {**dict(preset.shapes), **dict(preset.model), "made_for": preset.made_for(spec.crop)}
        config |= {"num_frames": spec.num_frames, "crop": spec.crop}
        parameters, macs = cost(name, num_classes=classes, **config)
        entries.append(_entry(name, preset.family, preset, parameters, macs, classes))
    return entries


def _entry(name: str, family: str, preset: Preset | None, parameters: int, macs: int, classes: int) -> CatalogEntry:
    return CatalogEntry(
        architecture=name,
        family=family,
        parameters=parameters,
        gmacs=round(macs / 1e9, 3),
        num_classes=classes,
        preset=preset.name if preset else None,
        clip_spec=preset.clip_spec if preset else None,
        protocol=preset.protocol if preset else None,
        published=preset.published if preset else None,
        source=preset.source if preset else None,
    )
