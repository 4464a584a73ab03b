"""How long the relay may be silent before it counts as hanging."""

import pytest

from clip_registry.database.engine import CLIENT_MARGIN_SECONDS, open_engine
from clip_registry.outbox.relay import hangs_after_seconds


@pytest.mark.parametrize(
    ("hosts", "connect", "statement"), [(1, 5, 10), (1, 5, 600), (3, 999, 10), (3, 999, 600)]
)
def test_no_outage_of_the_database_makes_the_relay_hang(hosts: int, connect: int, statement: float) -> None:
    names = ",".join(f"db-{number}" for number in range(hosts))
    engine = open_engine(
        f"postgresql://u:p@{names}/d?connect_timeout={connect}",
        pool_size=1,
        statement_timeout_seconds=statement,
    )
    waits = 2 * hosts * connect + statement + CLIENT_MARGIN_SECONDS
    assert waits < hangs_after_seconds(engine) < 60 + 5 * waits + 1
