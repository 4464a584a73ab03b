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
    rounds: Annotated[
        int, typer.Option(min=1, help="How many rounds, each with a seed of its own.")
    ] = ROUNDS,
    seed: Annotated[int | None, typer.Option(min=0, help="The first seed; the next rounds count on.")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="Go on for so long, from a random seed.")
    ] = None,
    session: Annotated[
        int, typer.Option(min=6, max=30, help="Seconds of a consumer's session (30 in production).")
    ] = 6,
    logs: Annotated[Path, typer.Option(help="Where logs go after a violation.")] = Path(".local/chaos-logs"),
) -> None:
    """Hurt a running system, heal it, and check that nothing was lost. Exit code 1: something was."""
    if seed is None:
        seed = random.randrange(MAX_SEED) if hours else FIRST_SEED  # noqa: S311 - chance, not a secret
    until = time.monotonic() + hours * 3600 if hours else None
    may_mount = own_mounts()  # before anything makes a thread
    try:
        bring_broker()
    except BrokerUnavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    # It tells of every attempt to reach a broker that is down, as it is meant to be.
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
