"""From a video file to the clips that a network sees: probe, decode, sample, transform. No torch.

Reading order: spec (what a clip is), sampling (which frames), video (decoding them), transforms (crops),
clips (all of it in one call), salience (which clips are worth it), protocols (averaging), bundle (the exported model).
"""
