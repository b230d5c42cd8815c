"""Intake of videos: admission control, paths, uploads, URIs."""
