from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tenclip_findings.salience.costs import graph_macs


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.conv(x).mean(dim=(2, 3)))
        return out


def export(path: Path, *, dynamic: bool) -> Path:
    shapes = ({0: "batch"},) if dynamic else None
    example = torch.randn(2 if dynamic else 1, 4, 6, 6)
    torch.onnx.export(Net().eval(), (example,), path, dynamo=True, verbose=False, dynamic_shapes=shapes)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [True, False])
def test_operations_of_one_item(tmp_path: Path, dynamic: bool) -> None:
    # 8 channels of 6x6 from 2 of 4 channels in 3x3, and 8 to 5.
    assert graph_macs(export(tmp_path / "net.onnx", dynamic=dynamic)) == 8 * 36 * 2 * 9 + 8 * 5


@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_unknown_shapes_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(export(tmp_path / "net.onnx", dynamic=False))
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "blind.onnx")
    with pytest.raises(ValueError, match=r"blind\.onnx: the shape of Conv"):
        graph_macs(tmp_path / "blind.onnx")
