"""A TorchServe handler as people write it for a video model: decode with PyAV, torch eager, the top five as JSON.

Not imported here: `bench_torchserve` packs this file, beside the weights, into an archive of its own.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import torch
import torch.nn.functional as F
from ts.torch_handler.base_handler import BaseHandler

from tenclip_training.models import create_model

FRAMES, CROP, CLIPS = 16, 112, 10
HEIGHT, WIDTH = 128, 171
MEAN = torch.tensor([0.43216, 0.394666, 0.37645]).view(3, 1, 1, 1)
STD = torch.tensor([0.22803, 0.22145, 0.216989]).view(3, 1, 1, 1)


class EagerHandler(BaseHandler):  # type: ignore[misc]  # TorchServe has no types
    def initialize(self, context: Any) -> None:
        torch.set_num_threads(context.model_yaml_config["threads"])
        folder = Path(context.system_properties["model_dir"])
        self.model = create_model("r2plus1d_18", num_classes=400, num_frames=FRAMES, crop=CROP)
        self.model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        self.model.eval()
        self.initialized = True

    def preprocess(self, requests: list[dict[str, Any]]) -> torch.Tensor:
        return torch.cat([self.clips(bytes(request.get("data") or request["body"])) for request in requests])

    def clips(self, data: bytes) -> torch.Tensor:
        """[10,3,T,H,W]"""
        with av.open(io.BytesIO(data), "r") as container:
            container.streams.video[0].thread_type = "AUTO"
            frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
        starts = torch.linspace(0, max(len(frames) - FRAMES, 0), CLIPS).long().tolist()
        video = torch.stack(frames).permute(0, 3, 1, 2).float() / 255  # (N,3,H,W)
        video = F.interpolate(video, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        top, left = (HEIGHT - CROP) // 2, (WIDTH - CROP) // 2
        video = video[:, :, top : top + CROP, left : left + CROP].permute(1, 0, 2, 3)  # (3,N,h,w)
        video = (video - MEAN) / STD
        return torch.stack([video[:, start : start + FRAMES] for start in starts])

    def inference(self, data: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.model(data)[0].squeeze(-1)  # [B,K,1] -> [B,K]
        return logits

    def postprocess(self, logits: torch.Tensor) -> list[bytes]:
        scores = logits.softmax(-1).view(-1, CLIPS, logits.shape[-1]).mean(1)
        found = []
        for video in scores:
            values, indices = video.topk(5)
            found.append(json.dumps(dict(zip(map(str, indices.tolist()), values.tolist(), strict=True))).encode())
        return found
