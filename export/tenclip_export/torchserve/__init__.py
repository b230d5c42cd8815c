"""TorchServe: `archive` writes the `.mar`, `handler` is what its workers run."""
