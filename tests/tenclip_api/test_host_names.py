"""Whom a server of this machine answers, by the name that they call it by."""

from __future__ import annotations

import pytest

from tenclip_api.host_names import HostNames

# What a script of a page sends that was loaded over HTTP from a name of its own: no Sec-Fetch-*, no Origin with GET.
CHROMIUM = {"user-agent": "Mozilla/5.0", "accept": "*/*", "accept-encoding": "gzip, deflate", "accept-language": "en"}
CURL = {"user-agent": "curl/8.5.0", "accept": "*/*"}


@pytest.mark.parametrize("listens", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("localhost", True),
        ("LOCALHOST.:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8080", False),
        ("127.0.0.1@evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_server_of_this_machine_is_called_by_names_of_this_machine(listens: str, host: str, taken: bool) -> None:
    assert HostNames(listens).accepts(host) == taken
    assert HostNames(listens).accepts_browser({**CHROMIUM, "host": host}) == taken
    assert HostNames(listens).accepts_browser({**CURL, "host": host})


@pytest.mark.parametrize("more", [{"origin": "http://x"}, {"sec-fetch-mode": "cors"}, {"accept-language": ""}])
def test_what_gives_a_browser_away(more: dict[str, str]) -> None:
    assert not HostNames("127.0.0.1").accepts_browser({**CURL, **more, "host": "x"})


@pytest.mark.parametrize(
    ("names", "host", "taken"),
    [
        ((), "anything:80", True),
        ((), "", True),
        (("Lab.example",), "lab.Example:80", True),
        (("lab.example",), "evil.example", False),
        (("lab.example",), "10.0.0.7", True),
        (("lab.example",), "localhost", False),
    ],
)
def test_a_server_of_other_machines_is_called_by_any_name_until_some_are_given(
    names: tuple[str, ...], host: str, taken: bool
) -> None:
    assert HostNames("10.0.0.7", names).accepts(host) == taken
    assert HostNames("::1", names).accepts("localhost")
