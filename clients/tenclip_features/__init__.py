"""Tables of features: how they are written, read, joined to labels, and probed. Needs pyarrow; a probe scikit-learn."""
