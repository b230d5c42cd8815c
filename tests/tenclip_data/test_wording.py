from __future__ import annotations

from tenclip_data.wording import some_of


def test_the_first_names_and_how_many_more() -> None:
    assert some_of([]) == ""
    assert some_of(["a"]) == "a"
    assert some_of("abcde") == "a, b, c, d, e"
    assert some_of("abcdef") == "a, b, c, d, e and 1 more"
    assert some_of((str(i) for i in range(2000)), most=2) == "0, 1 and 1,998 more"
