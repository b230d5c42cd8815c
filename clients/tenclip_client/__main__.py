"""`python -m tenclip_client` is `tenclip`."""

from tenclip_client.cli.main import main

if __name__ == "__main__":
    main()
