"""``clip-shared dlq``: the dead letters of every topic."""

from typing import Annotated

import typer

from clip_shared.bus import dlq
from clip_shared.bus.settings import KafkaSettings
from clip_shared.commands.running import run
from clip_shared.contracts.topics import DLQ_SUFFIX, TOPICS
from clip_shared.settings import load_settings

cli = typer.Typer(
    no_args_is_help=True, help="Count, show, replay and discard dead letters: messages that were not handled."
)

TopicName = Annotated[str, typer.Argument(help="The topic that the messages came from, without .dlq.")]
Limit = Annotated[int, typer.Option(min=1, help="The largest number of messages; the oldest come first.")]


@cli.command("list")
def list_dead_letters() -> None:
    """Count the dead letters of every topic: the pending ones, and all that are retained."""
    settings = load_settings(KafkaSettings)
    for topic in (topic for topic in TOPICS if topic.name.endswith(DLQ_SUFFIX)):
        pending, retained = run(dlq.count(settings, topic.name.removesuffix(DLQ_SUFFIX)))
        typer.echo(f"{topic.name:28} {pending} pending, {retained} retained")


@cli.command()
def show(topic: TopicName, limit: Limit = 20) -> None:
    """Show pending dead letters: the error, the time, and the message."""
    dead_letters = run(dlq.pending(load_settings(KafkaSettings), topic, limit=limit))
    if not dead_letters:
        typer.echo("nothing pending")
    for each in dead_letters:
        typer.secho(f"{each.position}  {each.time:%Y-%m-%d %H:%M:%S} UTC", bold=True)
        typer.echo(f"  {each.notes.get('dlq_error_type')}: {each.notes.get('dlq_error')}")
        typer.echo(
            f"  from {each.notes.get('dlq_topic')} {each.notes.get('dlq_partition')}:"
            f"{each.notes.get('dlq_offset')}, by {each.notes.get('dlq_service')},"
            f" after {each.notes.get('dlq_attempts')} attempt(s)"
        )
        typer.echo(f"  key {each.record.key!r}, value {(each.record.value or b'')[:500]!r}")
        if each.lacks:
            typer.echo(f"  truncated: it lacks {each.lacks}, and can only be discarded")


@cli.command()
def replay(
    topic: TopicName,
    limit: Limit = 1000,
    discard: Annotated[
        bool, typer.Option("--discard", help="Mark the dead letters as dealt with, and send nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")
    ] = False,
) -> None:
    """Send pending dead letters back to their topic. Do this once the cause of the errors is mended."""
    settings = load_settings(KafkaSettings)
    action = "discard" if discard else f"send back to {topic}"
    if not yes:
        pending, _ = run(dlq.count(settings, topic))
        typer.echo(f"would {action}: {min(pending, limit)} of {pending} pending; repeat with --yes to do it")
        return
    done = run(dlq.replay(settings, topic, limit=limit, discard=discard))
    typer.echo(f"{'discarded' if discard else 'sent back'}: {done.dealt_with}")
    if done.refused:
        typer.echo(
            f"refused: {done.refused}; a dead letter that was truncated cannot be sent back, only discarded:"
            f" see clip-shared dlq show {topic}"
        )
