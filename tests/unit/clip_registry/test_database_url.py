"""What a DATABASE_URL may say."""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from clip_registry.database.url import DatabaseUrl

OURS = {"application_name": ["clip-registry"], "target_session_attrs": ["read-write"]}


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(url.partition("?")[2])


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+asyncpg://u@h:5433/d", "postgresql://u@h:5433/d"),
        ("postgresql://u:p%40%23@[::1]:5432/d", "postgresql://u:p%40%23@[::1]:5432/d"),
        ("postgresql:///d", "postgresql:///d"),
    ],
)
def test_the_usual_forms_are_understood(given: str, used: str) -> None:
    [url] = DatabaseUrl.parse(given).hosts
    before, _, parameters = url.partition("?")
    assert (before, parse_qs(parameters)) == (used, OURS)


def test_several_hosts_are_several_urls_in_their_order() -> None:
    hosts = DatabaseUrl.parse("postgresql://u:p,w@one:5433,two,[::1]:5434/d?sslmode=require").hosts
    assert [urlsplit(url).netloc.rpartition("@")[2] for url in hosts] == ["one:5433", "two", "[::1]:5434"]
    assert {unquote(urlsplit(url).password or "") for url in hosts} == {"p,w"}
    assert [query(url)["sslmode"] for url in hosts] == [["require"]] * 3


def test_the_usual_parameters_of_libpq_are_understood(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    given = {
        "sslmode": "verify-full",
        "sslrootcert": str(certificate),
        "application_name": "clips-eu",
        "target_session_attrs": "primary",
        "options": "-c search_path=clips",
    }
    url = "postgresql://h/d?connect_timeout=7&" + "&".join(f"{name}={each}" for name, each in given.items())
    parsed = DatabaseUrl.parse(url)
    assert parsed.connect_timeout_seconds == 7
    assert query(parsed.hosts[0]) == {name: [value] for name, value in given.items()}


def test_asyncpgs_word_for_sslmode_is_understood() -> None:
    assert query(DatabaseUrl.parse("postgresql+asyncpg://h/d?ssl=require").hosts[0])["sslmode"] == ["require"]


def test_a_socket_is_a_parameter() -> None:
    parsed = DatabaseUrl.parse("postgresql+asyncpg://u@/d?host=/run/pg")
    assert query(parsed.hosts[0])["host"] == ["/run/pg"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("hush", "not a database URL"),
        ("mysql://u:hush@h/d", "must be a postgresql:// URL"),
        ("postgresql://u:hush@h:port/d", "not a database URL"),
        ("postgresql://u:hush@one,two:x/d", "not a database URL"),
        ("postgresql://u:hush@h/d?keepalives=1&channel_binding=x", "channel_binding, keepalives is not"),
        ("postgresql://u:hush@h/d?sslmode=maybe", "sslmode must be one of"),
        ("postgresql://u:hush@h/d?target_session_attrs=standby", "target_session_attrs must be one of"),
        ("postgresql://u:hush@h/d?connect_timeout=soon", "connect_timeout must be"),
        ("postgresql://u:hush@h/d?connect_timeout=0", "connect_timeout must be"),
        ("postgresql://u:hush@h/d?sslrootcert=/nowhere/ca.pem", "sslrootcert names no file"),
        ("postgresql://u:hush@h/d?sslmode=require&sslmode=disable", "sslmode is given more than once"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refusal:
        DatabaseUrl.parse(url)
    assert "hush" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
