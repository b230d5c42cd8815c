"""The `tenclip` command: one root; every package brings its own sub-commands."""
