"""Evaluation: accuracy over the serving path, linear probes on features."""
