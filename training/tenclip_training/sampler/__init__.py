"""Training of samplers: light networks that say which windows of a video a heavy one should look at (SCSampler, Korbar
et al., 2019; the ten salient clips of the IG-65M paper).

videos -> teacher (scores of every window) + inputs (what the sampler sees of it) -> fit -> held_out -> export
"""
