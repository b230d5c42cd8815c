"""The laboratory of the findings: jobs that depend on one another, done once each, several at a time.

Reading order: jobs (what is to be done), tasks (how each kind of it is done), pool (doing it), arms (what a finding
asks for: videos, networks, scores).
"""
