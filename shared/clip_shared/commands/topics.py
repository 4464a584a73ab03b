"""``clip-shared topics``: the topics of the bus."""

from typing import Annotated

import typer

from clip_shared.bus.acls import create_acls
from clip_shared.bus.admin import correct, create_topics, differences, grow, growths
from clip_shared.bus.settings import KafkaSettings
from clip_shared.commands.running import run
from clip_shared.contracts.topics import TOPICS, Topic, types_of, with_partitions
from clip_shared.errors import PermanentError
from clip_shared.settings import load_settings

cli = typer.Typer(no_args_is_help=True, help="List the topics of the bus, and create them.")


@cli.command("list")
def list_topics() -> None:
    """List every topic with its partitions, retention and event types."""
    for topic in TOPICS:
        carried = ", ".join(types_of(topic.name))
        typer.echo(f"{topic.name:28} {topic.partitions} partitions, {topic.retention_days} days: {carried}")


@cli.command()
def create(
    replication_factor: Annotated[int, typer.Option(min=1, help="Replicas of each new partition.")] = 1,
    apply: Annotated[
        bool, typer.Option("--apply", help="Also correct the configuration of topics that exist.")
    ] = False,
    acls: Annotated[bool, typer.Option("--acls", help="Also create the ACLs of all service users.")] = False,
    partitions: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TOPIC_PARTITIONS",
            metavar="TOPIC=COUNT",
            help="How many partitions a topic has. Repeat the option for more topics; in the environment,"
            " separate them by spaces.",
        ),
    ] = None,
) -> None:
    """Create the topics that are missing, on KAFKA_BOOTSTRAP_SERVERS. It is safe to repeat.

    A topic that exists is not changed: its differences are printed, and --apply corrects them.

    Partitions are only ever added, and only to topics that --partitions names. The events with the same key
    are in one partition, and with more partitions most keys move to another one: until the events in the old
    partitions are handled, events with the same key may be handled in another order, or at the same time. Our
    services tolerate that. Readers of clip-lifecycle must drop a version that is lower than the one they
    have. To keep the order, stop the producers, wait until no group has lag, add the partitions, and start
    the producers again.
    """
    settings, counts = load_settings(KafkaSettings), _counts(partitions or [])
    topics = _topics(counts)
    created = run(create_topics(settings, replication_factor=replication_factor, topics=topics))
    for name, is_new in created.items():
        typer.echo(f"{name:28} {'created' if is_new else 'exists'}")
    existing = [topic for topic in topics if not created[topic.name]]
    differs = _show_differences(settings, existing, apply=apply)
    differs |= _show_growths(settings, [topic for topic in existing if topic.name in counts], apply=apply)
    if differs and not apply:
        typer.echo("correct them with: clip-shared topics create --apply")
    for acl in run(create_acls(settings)) if acls else []:
        typer.echo(f"{acl.name:28} {acl.user} may {acl.operation.name.lower()}")


def _counts(words: list[str]) -> dict[str, int]:
    """Read TOPIC=COUNT."""
    found = [word.partition("=") for word in words]
    if wrong := [
        f"{name}{sign}{count}" for name, sign, count in found if not count.isdecimal() or int(count) < 1
    ]:
        raise typer.BadParameter(f"not TOPIC=COUNT: {', '.join(wrong)}", param_hint="--partitions")
    return {name: int(count) for name, _, count in found}


def _topics(counts: dict[str, int]) -> tuple[Topic, ...]:
    try:
        return with_partitions(counts, TOPICS)
    except PermanentError as error:
        raise typer.BadParameter(str(error), param_hint="--partitions") from error


def _show_growths(settings: KafkaSettings, topics: list[Topic], *, apply: bool) -> bool:
    """Print which topics have too few partitions; return whether there are such topics."""
    too_small = run(growths(settings, topics)) if topics else []
    if apply:
        run(grow(settings, too_small))
    for each in too_small:
        now = f"was {each.found}, now {each.wanted}" if apply else f"is {each.found}, should be {each.wanted}"
        typer.echo(f"{each.topic:28} partitions {now}")
    return bool(too_small)


def _show_differences(settings: KafkaSettings, topics: list[Topic], *, apply: bool) -> bool:
    """Print which configurations differ from ours; return whether there are such topics."""
    different = run(differences(settings, topics))
    if apply:
        run(correct(settings, different))
    for each in different:
        now = f"was {each.found}, now {each.wanted}" if apply else f"is {each.found}, should be {each.wanted}"
        typer.echo(f"{each.topic:28} {each.config} {now}")
    return bool(different)
