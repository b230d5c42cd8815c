"""A training run: config, recipes, the loop, checkpoints."""
