"""Addresses that the server listens on; see `tenclip_api.listening`."""

from __future__ import annotations

from tenclip_api.listening import check_can_listen, explain, plain_host, why_not_listen, with_port

__all__ = ["check_can_listen", "explain", "plain_host", "why_not_listen", "with_port"]
