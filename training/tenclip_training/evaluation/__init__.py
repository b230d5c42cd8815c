"""How good a model is: evaluation over the serving path."""
