from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tenclip_api.errors import BundleError
from tenclip_serving.runtimes import RUNTIMES, Clips, Runtime, available_runtimes, create_runtime
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.runtimes.openvino import OpenVinoRuntime
from tests.tenclip_serving.helpers import SPEC, reference, write_graph

# Those of every machine; a GPU's have tests of their own.
CPU_RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(path, num_frames=SPEC.num_frames, crop=SPEC.crop, num_classes=4)
    return path


def random_clips(num: int, side: int = SPEC.crop) -> Clips:
    return np.random.default_rng(num).integers(0, 256, (num, SPEC.num_frames, side, side, 3), np.uint8)


def test_both_are_installed_here() -> None:
    assert set(CPU_RUNTIMES) <= set(available_runtimes()) <= set(RUNTIMES)


@pytest.mark.parametrize("name", CPU_RUNTIMES)
@pytest.mark.parametrize("side", [SPEC.crop, SPEC.fully_convolutional_crop])
@pytest.mark.parametrize("num", [1, 3])
def test_outputs_are_those_of_numpy(graph: Path, name: str, side: int, num: int) -> None:
    runtime = create_runtime(name, graph, threads=1)
    assert runtime.name == name
    clips = random_clips(num, side)
    actual, expected = runtime.run(clips), reference(clips)
    assert actual.logits.shape == (num, 4, 1 if side == SPEC.crop else 4)
    assert actual.logits.dtype == actual.features.dtype == np.float32
    assert_allclose(actual.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert_allclose(actual.features, expected.features, rtol=1e-4)


@pytest.mark.parametrize("name", CPU_RUNTIMES)
def test_earlier_results_survive_later_calls(graph: Path, name: str) -> None:
    """Runtimes that hand out their own buffers would overwrite them."""
    runtime = create_runtime(name, graph)
    first = runtime.run(random_clips(2))
    kept = first.logits.copy(), first.features.copy()
    runtime.run(random_clips(5))
    assert_allclose(first.logits, kept[0], rtol=0)
    assert_allclose(first.features, kept[1], rtol=0)


@pytest.mark.parametrize("name", CPU_RUNTIMES)
def test_nothing_of_the_clips_is_held_afterwards(graph: Path, name: str) -> None:
    """They are a view of memory that is charged until here."""
    runtime = create_runtime(name, graph)
    clips = random_clips(2)
    gone = weakref.ref(clips)
    runtime.run(clips)
    del clips
    assert gone() is None


@pytest.mark.parametrize("name", CPU_RUNTIMES)
def test_a_clip_alone_gives_what_it_gives_in_a_batch(graph: Path, name: str) -> None:
    runtime = create_runtime(name, graph)
    clips = random_clips(4)
    batched = runtime.run(clips)
    alone = np.concatenate([runtime.run(clip[np.newaxis]).logits for clip in clips])
    assert_allclose(alone, batched.logits, rtol=1e-5)


@pytest.mark.parametrize("name", CPU_RUNTIMES)
def test_a_view_that_is_not_contiguous(graph: Path, name: str) -> None:
    clips = random_clips(2, SPEC.crop + 4)[:, :, 2:-2, 2:-2]
    assert_allclose(create_runtime(name, graph).run(clips).logits, reference(clips).logits, rtol=1e-4, atol=1e-4)


def fake(path: Path) -> Runtime:
    return FakeRuntime()


@pytest.mark.parametrize(
    "make",
    [fake, *(lambda path, n=name: create_runtime(n, path) for name in CPU_RUNTIMES)],
    ids=["fake", *CPU_RUNTIMES],
)
@pytest.mark.parametrize(
    "clips",
    [
        np.zeros((1, 4, 32, 32, 3), np.float32),
        np.zeros((4, 32, 32, 3), np.uint8),
        np.zeros((1, 3, 4, 32, 32), np.uint8),
        np.zeros((0, 4, 32, 32, 3), np.uint8),
    ],
    ids=["float", "no batch", "channels first", "empty"],
)
def test_refuses_other_arrays(graph: Path, make: Callable[[Path], Runtime], clips: Clips) -> None:
    with pytest.raises(ValueError, match=r"clips must be uint8 \[B,T,H,W,3\]"):
        make(graph).run(clips)


@pytest.mark.parametrize("name", CPU_RUNTIMES)
def test_a_graph_that_does_not_load_names_its_file(tmp_path: Path, name: str) -> None:
    bad = tmp_path / "model.onnx"
    bad.write_bytes(b"nothing that a runtime reads")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        create_runtime(name, bad)
    with pytest.raises(BundleError, match=r"absent\.onnx"):
        create_runtime(name, tmp_path / "absent.onnx")


@pytest.mark.parametrize("name", CPU_RUNTIMES)
def test_a_graph_of_another_kind_is_no_bundles(tmp_path: Path, name: str) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([node], "other", info[:1], info[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(tmp_path / "o.onnx")
    )
    with pytest.raises(BundleError, match=r"o\.onnx"):
        create_runtime(name, tmp_path / "o.onnx")


def test_openvino_computes_in_float32(graph: Path) -> None:
    """Its own choice on many server CPUs is bfloat16, which golden replay would refuse."""
    runtime = OpenVinoRuntime(graph, threads=1)
    runtime.run(random_clips(1))
    (request,) = runtime._requests.values()
    compiled = request.get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


SIGNAL_AFTER_MODELS_CAME_AND_WENT = """
import faulthandler, os, signal, sys
from pathlib import Path
import numpy as np
from tenclip_serving.runtimes import create_runtime

faulthandler.enable()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
clips = np.zeros((1, *map(int, sys.argv[2:])), np.uint8)
first, second = (create_runtime("openvino", Path(sys.argv[1]), threads=1) for _ in range(2))
for runtime in (first, second):
    runtime.run(clips)
del runtime, first
del second
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_openvino_leaves_the_signal_stack_alone(graph: Path) -> None:
    # Each Core would put another one in place and, gone, leave one behind that is no longer there.
    shape = map(str, (SPEC.num_frames, SPEC.crop, SPEC.crop, 3))
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_MODELS_CAME_AND_WENT, str(graph), *shape], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_compiles_each_shape_once(graph: Path) -> None:
    runtime = OpenVinoRuntime(graph)
    for side in (SPEC.crop, 40, SPEC.crop, 40):
        runtime.run(random_clips(2, side))
    assert sorted(runtime._requests) == [(4, 32, 32), (4, 40, 40)]


def test_unknown_runtime() -> None:
    with pytest.raises(ValueError, match=r"runtime 'tensorflow' is not one of .*openvino"):
        create_runtime("tensorflow", Path("x"))


def test_fake_runtime_is_a_function_of_its_clips() -> None:
    runtime = FakeRuntime(crop=32)
    clips = random_clips(3)
    first, again = runtime.run(clips), runtime.run(clips[::-1])
    assert_allclose(first.logits, again.logits[::-1], rtol=1e-6)
    assert not np.allclose(first.logits[0], first.logits[1])
    assert runtime.run(random_clips(2, 40)).logits.shape == (2, 4, 4)
    assert runtime.batches == [3, 3, 2]
