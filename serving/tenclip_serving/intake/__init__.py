"""How a video gets in: admission control, paths, uploads, URIs."""
