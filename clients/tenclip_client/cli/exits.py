"""Exit codes that mean more than an error (1) or wrong usage (2); those of every command are in `main`."""

from __future__ import annotations

# All is done that can be, but some videos failed. The same command again would find the same: a Job must not repeat it.
SOME_FAILED = 3
