"""Findings on your own labelled videos, in the place of generated ones.

Half of the classes, chosen by the seed, are what networks pre-train on; the other half is the target that they are
tried on, so that a target shows nothing that pre-training has shown.

Reading order: data (what there is, and what is enough), arms (what every seed takes of it), findings (those that can be
run on it, and why the others cannot).
"""
