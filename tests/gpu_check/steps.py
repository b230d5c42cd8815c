"""The steps, the most valuable first. Only Python's own modules are imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """`tests.gpu_check.step_NAME.run(context)` gives its result. limit: seconds, after which it is ended by force.

    least: seconds that must be left for it to begin.
    """

    name: str
    what: str
    limit: float
    least: float = 10.0

    @property
    def module(self) -> str:
        return f"tests.gpu_check.step_{self.name}"


STEPS = (
    Step(name="machine", what="versions, and the rates that everything is compared with", limit=45),
    Step(name="speed", what="ways to run R(2+1)D-34 and -18, batches of 1 to 64", limit=130),
    Step(name="exactness", what="golden clips in four precisions; CUDA graphs against eager", limit=80, least=15),
    Step(name="layers", what="each layer of R(2+1)D-34 against its roofline", limit=40),
    Step(name="served", what="videos a second from file to answer: decode or GPU", limit=80, least=20),
    Step(name="memory", what="a full GPU: batches split, the engine lives", limit=40),
    Step(name="training", what="steps a second, memory, loss against float32, the loader", limit=90, least=15),
    Step(name="nvdec", what="decoding by the GPU, against the CPU's pixels", limit=25),
    Step(name="compile", what="torch.compile, then with max-autotune", limit=200, least=25),
    Step(name="libraries", what="what ONNX Runtime and TensorRT can do here", limit=40),
)
BY_NAME = {step.name: step for step in STEPS}


def choose(names: list[str]) -> tuple[Step, ...]:
    """The steps named, in their order; all where none is. Raises ValueError for a name that is none."""
    unknown = sorted(set(names) - set(BY_NAME))
    if unknown:
        raise ValueError(f"no step named {', '.join(unknown)}; there are: {', '.join(BY_NAME)}")
    return tuple(step for step in STEPS if not names or step.name in names)
