"""Architectures stay what they were: names, shapes and outputs of checkpoints that people have."""

from __future__ import annotations

import pytest

from tenclip_training.models import create_model
from tenclip_training.models.cost import count_parameters

from .pinned import layout_digest, logits_by_formula

# Taken before the families became tables of values; since then every line stayed as it was.
PINNED: dict[str, tuple[str, tuple[float, float]]] = {
    "i3d": ("c9f0565420d84506", (-1.21618792, 0.55843304)),
    "ip_csn_101": ("0571309a14db79a6", (-13.4415968, 14.0865195)),
    "ip_csn_152": ("2b19112961bc8c1a", (-13.4415968, 14.0865195)),
    "ip_csn_50": ("a5ddb4c55e3b7308", (-13.4415968, 14.0865195)),
    "ir_csn_101": ("aaeb6cd84807086c", (-7.86295559, 10.564686)),
    "ir_csn_152": ("24f3388ce93fcba5", (-7.86295559, 10.564686)),
    "ir_csn_50": ("e83a91ac3896603d", (-7.86295559, 10.564686)),
    "mmaction2_r2plus1d_34": ("418ec04fd4a12080", (7.60193834, 12.5526119)),
    "omni_slowonly_r50": ("722945f0e5d17a09", (-14.3335412, -7.53840864)),
    "pytorchvideo_csn_r101": ("aaeb6cd84807086c", (-7.8629327, 10.5646537)),
    "pytorchvideo_r2plus1d_r50": ("cab47f1ca6ad248e", (-14.334836, 15.0543744)),
    "pytorchvideo_slow_r50": ("561a33dd3fa32db0", (-7.40634003, 10.1401384)),
    "r2d_101": ("39ef4b73d34afdb5", (-8.23199541, 10.9810106)),
    "r2d_152": ("e464f81d4e63f16d", (-8.23199541, 10.9810106)),
    "r2d_18": ("7565f702faf6724b", (7.89326183, 1.76726429)),
    "r2d_34": ("ecbefc342cc3fec7", (7.89326183, 1.76726429)),
    "r2d_50": ("1768fca427a9c2f6", (-8.23199541, 10.9810106)),
    "r2plus1d_10": ("33cb59d4fccd376f", (-2.7961797, -3.1585575)),
    "r2plus1d_101": ("336e5f231ee0d4b4", (-14.2444061, 14.9437831)),
    "r2plus1d_152": ("b3569b34d18d9a09", (-14.2444061, 14.9437831)),
    "r2plus1d_18": ("b6d1fc1125e02f86", (-2.7961797, -3.1585575)),
    "r2plus1d_34": ("5809b49168ae3e95", (-2.7961797, -3.1585575)),
    "r2plus1d_50": ("d07396c7c89a0869", (-14.2444061, 14.9437831)),
    "resnets3d_r2plus1d_101": ("9b15531a8d3f25fe", (-14.2319239, 14.9383304)),
    "resnets3d_r2plus1d_152": ("1f82727419e235ba", (-14.2319239, 14.9383304)),
    "resnets3d_r2plus1d_18": ("b26b25ef20da355f", (-3.60852647, -3.85259713)),
    "resnets3d_r2plus1d_200": ("bc61a37517f20bdf", (-14.2319239, 14.9383304)),
    "resnets3d_r2plus1d_34": ("4ae858145067e348", (-3.60852647, -3.85259713)),
    "resnets3d_r2plus1d_50": ("fe39f880e903c02d", (-14.2319239, 14.9383304)),
    "resnets3d_r3d_10": ("46ea94d8456bd200", (10.0740175, 2.42876294)),
    "resnets3d_r3d_101": ("9153785896251d89", (-7.60852123, 10.3788651)),
    "resnets3d_r3d_152": ("c1eaa5e99643e546", (-7.60852123, 10.3788651)),
    "resnets3d_r3d_18": ("cb9365d8fd5c79db", (10.0740175, 2.42876294)),
    "resnets3d_r3d_200": ("57f718b38c14f3bc", (-7.60852123, 10.3788651)),
    "resnets3d_r3d_34": ("c3c5ef2df034ddc4", (10.0740175, 2.42876294)),
    "resnets3d_r3d_50": ("497e6ecdc367e212", (-7.60852123, 10.3788651)),
    "slowonly_r101": ("b6f731dd4ce8e7ff", (-7.40634003, 10.1401384)),
    "slowonly_r50": ("561a33dd3fa32db0", (-7.40634003, 10.1401384)),
    "torchvision_mc3_18": ("508bc4d7c0f1913a", (8.6243187, 1.60749166)),
    "torchvision_r2plus1d_18": ("175ab433fbfa4d48", (-2.5913165, -3.24451793)),
    "torchvision_r3d_18": ("4c5a3af381c439f8", (37.9899178, 5.50090071)),
    "tsn_efficientnet_lite0": ("c2b06583deb2c44f", (-1.75273721, -5.25472818)),
    "tsn_r50": ("1768fca427a9c2f6", (-8.23199541, 10.9810106)),
    # Taken when their outputs were those of networks in their authors' layout.
    "mmaction2_c2d_r101": ("39ef4b73d34afdb5", (-8.23275377, 10.9814686)),
    "mmaction2_c2d_r50": ("1768fca427a9c2f6", (-8.23275377, 10.9814686)),
    "mmaction2_i3d_r50": ("f97d6ba0abc81da5", (-8.2550555, 11.0072573)),
    "mmaction2_slowfast_r101": ("ff9358ed8e95d9c9", (-1.41492907, -7.02622843)),
    "mmaction2_slowfast_r50": ("609291b57e41e873", (-1.41492907, -7.02622843)),
    "mmaction2_x3d_m": ("b2f689db8e9b1252", (0.00337125461, 0.923909422)),
    "mmaction2_x3d_s": ("b2f689db8e9b1252", (0.00337125461, 0.923909422)),
    "pytorchvideo_c2d_r50": ("1768fca427a9c2f6", (-8.23328549, 10.9826147)),
    "pytorchvideo_i3d_r50": ("f97d6ba0abc81da5", (-8.34478524, 11.1229367)),
    "pytorchvideo_slowfast_r101": ("7edc10d4aeb67c2f", (-13.1953453, -13.6186395)),
    "pytorchvideo_slowfast_r50": ("faf1ff6e7c603fef", (-13.210956, -13.7015111)),
    "pytorchvideo_x3d_l": ("598e47356085fdbc", (0.00907448575, 0.938871046)),
    "pytorchvideo_x3d_m": ("d5b32effd4997734", (0.00907448575, 0.938871046)),
    "pytorchvideo_x3d_s": ("d5b32effd4997734", (0.00907448575, 0.938871046)),
    "pytorchvideo_x3d_xs": ("d5b32effd4997734", (0.00907448575, 0.938871046)),
}


@pytest.mark.parametrize("name", sorted(PINNED))
def test_names_shapes_and_outputs(name: str) -> None:
    digest, logits = PINNED[name]
    assert layout_digest(name) == digest
    assert logits_by_formula(name) == pytest.approx(logits, rel=1e-6)


def test_a_backbone_without_a_classifier_is_the_same_network() -> None:
    whole, backbone = (
        create_model("r2plus1d_10", num_classes=5, width=4),
        create_model("r2plus1d_10", num_classes=None, width=4),
    )
    assert list(backbone.state_dict()) == [name for name in whole.state_dict() if not name.startswith("fc.")]
    assert (backbone.num_classes, backbone.feature_dim) == (0, whole.feature_dim)
    assert count_parameters(whole) - count_parameters(backbone) == 5 * whole.feature_dim + 5
    assert create_model("r2plus1d_10", **backbone.config).num_classes == 0
