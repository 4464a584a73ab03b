"""``DATABASE_URL``: parsed as libpq parses it, and checked before anything connects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from clip_shared.contracts.service_names import CLIP_REGISTRY

CONNECT_TIMEOUT_SECONDS = 5.0

_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_FILES = {"sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"}
# The registry writes: it cannot use a server that is read-only.
_SESSIONS = {"any", "primary", "read-write"}
_UNDERSTOOD = _FILES | {
    *("host", "port", "user", "password", "dbname", "sslmode", "sslpassword"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("connect_timeout", "application_name", "target_session_attrs", "options"),
}
# Everything before the hosts; the hosts, separated by commas; everything after them.
_PARTS = re.compile(r"([a-z0-9+]+://(?:[^:/@]*(?::[^@]*)?@)?)([^/?]*)(.*)", re.DOTALL)


@dataclass(frozen=True)
class DatabaseUrl:
    """The hosts of the database: a URL for each, in the order in which they are tried."""

    hosts: tuple[str, ...]
    connect_timeout_seconds: float

    @classmethod
    def parse(cls, url: str) -> "DatabaseUrl":
        """Parse and check a URL.

        Raises:
            ValueError: the URL cannot be used. The message shows no value of it, at most a parameter's
                name.
        """
        parts = _PARTS.fullmatch(url)
        if parts is None:
            raise ValueError("not a database URL")
        before, hosts, after = parts.groups()
        parsed = [_for_one_host(before + host + after) for host in hosts.split(",")]
        return cls(tuple(url for url, _ in parsed), parsed[0][1])


def _for_one_host(text: str) -> tuple[str, float]:
    """Return the URL as asyncpg takes it, and the seconds that connecting may take."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL") from None  # the cause would show the password
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError("must be a postgresql:// URL")
    # SQLAlchemy writes ssl for sslmode.
    query = {"sslmode" if name == "ssl" else name: value for name, value in url.query.items()}
    given = {name: value for name, value in query.items() if isinstance(value, str)}
    if twice := sorted(query.keys() - given.keys()):
        raise ValueError(f"{', '.join(twice)} is given more than once")
    _check(given)
    timeout = float(given.pop("connect_timeout", CONNECT_TIMEOUT_SECONDS))
    # With it, asyncpg leaves a server that does not take writes: it does not stay on a demoted one.
    given = {"application_name": CLIP_REGISTRY, "target_session_attrs": "read-write", **given}
    dsn = url.set(drivername="postgresql", query=given)
    return dsn.render_as_string(hide_password=False), timeout


def _check(query: Mapping[str, str]) -> None:
    if unknown := sorted(query.keys() - _UNDERSTOOD):
        raise ValueError(
            f"{', '.join(unknown)} is not understood; known are {', '.join(sorted(_UNDERSTOOD))}"
        )
    _check_choice(query, "sslmode", _SSL_MODES)
    _check_choice(query, "target_session_attrs", _SESSIONS)
    if not re.fullmatch(r"[1-9][0-9]{0,2}", query.get("connect_timeout", "1")):
        raise ValueError("connect_timeout must be a whole number of seconds, from 1 to 999")
    for name in sorted(_FILES & query.keys()):
        if not Path(query[name]).is_file():
            raise ValueError(f"{name} names no file")


def _check_choice(query: Mapping[str, str], name: str, choices: set[str]) -> None:
    if query.get(name, next(iter(choices))) not in choices:
        raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}")
