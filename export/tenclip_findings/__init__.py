"""Findings: experiments that show, on generated videos, whether a method does what its paper says it does.

Each experiment is a package of its own, runs from one command, and computes its verdicts from what it measured.

Reading order: statistics (what counts as shown), salience (prediction from the clips that matter).
"""
