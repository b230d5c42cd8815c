"""Stubs of the Open Inference Protocol. For the server only: a process that imports tritonclient has its own copy."""
