"""Neighbours of videos: the indexes that a server searches, each in a process of its own."""
