"""The gateway's addresses, and paths to return to."""

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clip_gateway.addresses import FIRST_PAGE, PublicAddresses, own_path
from tests.unit.clip_gateway.conftest import ADDRESSES

LURES = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/\n/evil.example",
    "https://evil.example",
    "https:evil.example",
    "http:///evil.example",
    "javascript:alert(1)",
    "evil.example",
    "?next=//evil.example",
    "",
    "/\x00",
    "/clips\r\nSet-Cookie: a=b",
    "/é",
    "/" + "a" * 2000,
]


@pytest.mark.parametrize("lure", LURES)
def test_a_path_to_another_host_becomes_the_first_page(lure: str) -> None:
    assert own_path(lure) == FIRST_PAGE


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/clips/1",
        "/?status=kept&title=a%20b",
        "/clips/1?x=https://elsewhere.example",
        "/a//b",
        "/%2F/b",
        "/@x",
    ],
)
def test_an_own_path_is_unchanged(path: str) -> None:
    assert own_path(path) == path


def test_none_becomes_the_first_page() -> None:
    assert own_path(None) == FIRST_PAGE


@given(st.text(st.characters(max_codepoint=0x250)) | st.text("/\\\t\n\r .:@?#%aé", max_size=12))
@example("/\u2028/evil.example")
def test_own_path_is_a_path_of_one_line(text: str) -> None:
    path = own_path(text)
    assert path[:1] == "/"
    assert path[1:2] not in {"/", "\\"}
    assert not {each for each in path if each in "\\ \t\r\n\x00" and each != " "}
    parts = urlsplit(path)
    assert (parts.scheme, parts.netloc) == ("", "")
    assert path in {text, FIRST_PAGE}


@pytest.mark.parametrize(
    ("login_url", "begins"),
    [
        ("https://sign-in.example/", "https://sign-in.example/?next="),
        ("https://sign-in.example/login?client=clips", "https://sign-in.example/login?client=clips&next="),
        ("/sign-in", "/sign-in?next="),
    ],
)
@given(path=st.text(max_size=50).map("/".__add__))
def test_the_path_is_one_parameter_of_the_login_address(login_url: str, begins: str, path: str) -> None:
    address = replace(ADDRESSES, login_url=login_url).login_address(path)
    assert address is not None
    assert address.startswith(begins)
    assert parse_qs(urlsplit(address).query)["next"] == [own_path(path)]


def test_without_a_login_url_there_is_no_login_address() -> None:
    assert replace(ADDRESSES, login_url=None).login_address("/") is None


@pytest.mark.parametrize(
    ("public_url", "origin", "tls"),
    [
        ("https://Clips.example", "https://clips.example", True),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", False),
    ],
)
def test_the_origin_is_what_browsers_send(public_url: str, origin: str, *, tls: bool) -> None:
    public_addresses = PublicAddresses(public_url=public_url, media_origin="https://media.example")
    assert (public_addresses.origin, public_addresses.speaks_tls) == (origin, tls)
