"""Models that are served: bundles on disk, loading, checking, replacing."""
