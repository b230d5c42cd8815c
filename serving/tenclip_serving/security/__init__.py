"""TLS, bearer tokens, and the addresses that URIs may name."""
