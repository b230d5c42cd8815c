"""What only a GPU can show, in one script: `make gpu-check`, or `python3 -m tests.gpu_check --minutes 8`.

It runs on a bare machine (Python 3.12, torch with CUDA, numpy, onnxruntime; other packages as wheels that
`make gpu-wheels` gathers) and writes one JSON and docs/gpu.md. `steps.py` has the steps in their order, `supervisor.py`
runs them in processes of their own so that none of them can take the others' results away, `prepare.py` makes
references, a bundle and videos on the CPU meanwhile.
"""
