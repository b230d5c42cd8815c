"""Long proofs; not collected by pytest. See `__main__`."""
