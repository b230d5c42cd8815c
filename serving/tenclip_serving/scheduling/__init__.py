"""From clips to outputs: fair queueing, batches, warm-up."""
