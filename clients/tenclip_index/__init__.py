"""Neighbours of videos by their features: an index on disk, exact or approximate search, duplicates."""
