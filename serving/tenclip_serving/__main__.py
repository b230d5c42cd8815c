"""`python -m tenclip_serving DIR ...` is `tenclip serve DIR ...`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run `tenclip serve` with the process's own arguments and exit, with its exit codes and errors in one line."""
    from tenclip_client.cli.main import main as tenclip

    tenclip(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
