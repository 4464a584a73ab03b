"""The chaos suite: ``make chaos``, or ``make chaos HOURS=1 SEED=7``."""

import asyncio
import logging
import random
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from local_stack.servers.kafka_jars import BrokerUnavailable, bring_broker
from tests.chaos.plan import ROUNDS_PER_DECK
from tests.chaos.report import Totals
from tests.chaos.rounds import run
from tests.chaos.system import own_mounts

FIRST_SEED = 0
ROUNDS = ROUNDS_PER_DECK
MAX_SEED = 10**6

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; each has its own seed.")] = ROUNDS,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the first round; each next round adds 1.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="Run rounds for this many hours, from a random seed.")
    ] = None,
    session: Annotated[
        int,
        typer.Option(min=6, max=30, help="Session timeout of the consumers, in seconds (30 in production)."),
    ] = 6,
    logs: Annotated[Path, typer.Option(help="Folder for the logs after a violation.")] = Path(
        ".local/chaos-logs"
    ),
) -> None:
    """Inject faults into a running system, and check that it loses nothing. Exit code 1 after a violation."""
    if seed is None:
        seed = random.randrange(MAX_SEED) if hours else FIRST_SEED  # noqa: S311 - chance, not a secret
    until = time.monotonic() + hours * 3600 if hours else None
    may_mount = own_mounts()  # before the first thread starts
    try:
        bring_broker()
    except BrokerUnavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    # aiokafka logs every attempt to reach a broker that is down; here, brokers are down on purpose.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    totals = Totals(session_seconds=session)
    suite = run(
        totals,
        first_seed=seed,
        rounds=None if hours else rounds,
        until=until,
        logs=logs,
        may_mount=may_mount,
    )
    try:
        asyncio.run(suite)
    finally:
        typer.echo(totals.summary())
    sys.exit(0 if totals.is_clean else 1)


if __name__ == "__main__":
    app()
