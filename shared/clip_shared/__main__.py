"""The command line ``clip-shared``. Each group of commands has a module in :mod:`clip_shared.commands`."""

import logging

import typer

from clip_shared.bus.clients import publish_once
from clip_shared.bus.settings import KafkaSettings
from clip_shared.commands import buckets, dead_letters, schemas, skips, topics
from clip_shared.commands.running import run
from clip_shared.contracts.events import DailyTick, Event
from clip_shared.contracts.service_names import CLIP_SHARED
from clip_shared.settings import load_settings

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What Clips needs beside its services: topics, buckets, the daily tick, dead letters, skipped"
    " highlights, and the schemas of its events.",
)
cli.add_typer(topics.cli, name="topics")
cli.add_typer(buckets.cli, name="buckets")
cli.add_typer(dead_letters.cli, name="dlq")
cli.add_typer(skips.cli, name="skips")
cli.add_typer(schemas.cli, name="schemas")


@cli.command()
def tick() -> None:
    """Send one daily tick to KAFKA_BOOTSTRAP_SERVERS. A scheduler runs this once a day."""
    event = Event.new(DailyTick(), source=CLIP_SHARED)
    run(publish_once(load_settings(KafkaSettings), event))
    typer.echo(f"sent {event.data.TYPE} {event.id}")


def main() -> None:
    # Libraries log an outage, too; without a handler, Python would print that beside our error.
    logging.getLogger().addHandler(logging.NullHandler())
    cli()


if __name__ == "__main__":
    main()
