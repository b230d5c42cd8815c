from __future__ import annotations

import pytest

from tenclip_api.addresses import is_ipv6


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", True), ("fe80::1%eth0", True), ("127.0.0.1", False), ("localhost", False), ("[::1]", False), ("", False)],
)
def test_is_ipv6(host: str, expected: bool) -> None:
    assert is_ipv6(host) is expected
