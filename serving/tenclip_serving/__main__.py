"""`python -m tenclip_serving DIR ...` is `tenclip serve DIR ...`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command; a TenclipError is one line on stderr and exit code 1."""
    import typer

    from tenclip_api.errors import TenclipError
    from tenclip_serving.commands import serve

    try:
        typer.run(serve)
    except TenclipError as err:
        print(f"error: {err.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
