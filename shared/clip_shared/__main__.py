"""The command line of the shared package: topics and schemas."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from clip_shared import schemas
from clip_shared.errors import TransientError
from clip_shared.settings import KafkaSettings, load_settings
from clip_shared.topics import TOPICS, create_topics, types_of

cli = typer.Typer(no_args_is_help=True, help="The contracts of Clips: topics and schemas.")
topics_cli = typer.Typer(no_args_is_help=True, help="The topics of the bus.")
schemas_cli = typer.Typer(no_args_is_help=True, help="JSON Schemas and AsyncAPI, generated from the models.")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(schemas_cli, name="schemas")

Folder = Annotated[Path, typer.Argument(help="Where the generated documents are.")]


@topics_cli.command("list")
def list_topics() -> None:
    """List every topic with its partitions, retention and event types."""
    for topic in TOPICS:
        carried = ", ".join(types_of(topic.name))
        typer.echo(f"{topic.name:28} {topic.partitions} partitions, {topic.retention_days} days: {carried}")


@topics_cli.command()
def create(
    replication_factor: Annotated[int, typer.Option(min=1, help="Replicas of each partition.")] = 1,
) -> None:
    """Create the topics that are missing (KAFKA_BOOTSTRAP_SERVERS says where). Safe to repeat."""
    settings = load_settings(KafkaSettings)
    try:
        created = asyncio.run(create_topics(settings, replication_factor=replication_factor))
    except TransientError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    for name, is_new in created.items():
        typer.echo(f"{name:28} {'created' if is_new else 'exists'}")


@schemas_cli.command()
def write(folder: Folder = Path("shared/schemas")) -> None:
    """Write the documents that have changed; refuses a change that breaks a published version."""
    if problems := schemas.breaking_changes(folder):
        typer.echo("These changes break a published version; give the event a new one:", err=True)
        typer.echo("\n".join(f"  {problem}" for problem in problems), err=True)
        raise typer.Exit(1)
    for path in schemas.write(folder):
        typer.echo(f"wrote {path}" if path.exists() else f"removed {path}")


@schemas_cli.command()
def check(folder: Folder = Path("shared/schemas")) -> None:
    """Fail when a checked-in document is not what the code generates."""
    if names := schemas.drifted(folder):
        typer.echo(f"out of date: {', '.join(names)}; run: clip-shared schemas write", err=True)
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
