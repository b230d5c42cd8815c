"""The commands of this package, a file each: `tenclip train`, `evaluate`, `probe` and `synth`.

Importing this package imports none of them: a probe needs no torch, and `synth` needs PyAV.
"""
