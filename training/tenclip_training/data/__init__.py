"""Training data: clips of a manifest's videos, augmentation, the order of videos, failures."""
