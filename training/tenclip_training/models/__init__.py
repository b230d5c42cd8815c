"""Video networks: plain torch modules, made by `create_model` from a name and JSON values.

>>> model = create_model("r2plus1d_10", num_classes=8, width=16, num_frames=8, crop=56)
>>> logits, features = model(torch.zeros(2, 3, 8, 56, 56))  # [2,8,1], [2,128]

Reading order: `video_model` (the head), `blocks`, `parts` and `resnet` (the skeleton of all residual networks), the
families that are cut from it (`r2plus1d`, `r3d`, `r2d`, `inflated`), then `slowfast`, `x3d`, `i3d` and `efficientnet`;
`registry` holds their names.
"""

# Each of these registers its architectures.
from tenclip_training.models import (  # noqa: F401
    efficientnet,
    i3d,
    inflated,
    r2d,
    r2plus1d,
    r3d,
    slowfast,
    x3d,
)
from tenclip_training.models.registry import ARCHITECTURES, Architecture, create_model, register_architecture
from tenclip_training.models.video_model import VideoModel

__all__ = ["create_model", "VideoModel", "ARCHITECTURES", "Architecture", "register_architecture"]
