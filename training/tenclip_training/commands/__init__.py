"""The commands of this package, a file each: `tenclip train`, `evaluate` and `synth`.

Importing this package imports none of them: `synth` needs PyAV, `train` and `evaluate` torch.
"""
