"""Which models are served: bundles on disk, loading, checking, replacing."""
