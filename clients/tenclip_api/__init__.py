"""The wire contract: `.proto` files with their generated stubs under `v1/`, and the errors that travel over it."""
