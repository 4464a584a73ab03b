"""``docs/reference/commands.md``: every command of the five command lines."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup

import clip_cutter.__main__
import clip_gateway.__main__
import clip_registry.__main__
import clip_shared.__main__
import janitor.__main__
from tests.reference.markdown import code, document, fence, prose, table

PROGRAMS: Mapping[str, typer.Typer] = {
    "clip-shared": clip_shared.__main__.cli,
    "clip-cutter": clip_cutter.__main__.cli,
    "clip-registry": clip_registry.__main__.cli,
    "clip-gateway": clip_gateway.__main__.cli,
    "janitor": janitor.__main__.cli,
}
ABOUT = """\
Each image has the command line of its service; that of `clip-shared` is in every image. They read
the same [settings](settings.md) as the services. `make help` lists the commands of this repository."""


def page() -> str:
    """Return the page."""
    return document("Commands", ABOUT, *(_section(name, cli) for name, cli in PROGRAMS.items()))


@cache
def every_command() -> tuple[str, ...]:
    """Return every command with its group."""
    found = [_leaves(name, typer.main.get_command(cli)) for name, cli in PROGRAMS.items()]
    return tuple(words for leaves in found for words, _ in leaves)


def _section(program: str, cli: typer.Typer) -> str:
    group = typer.main.get_command(cli)
    commands = ["\n\n".join(_command(words, each)) for words, each in _leaves(program, group)]
    return "\n\n".join([f"## {program}", prose(group.help), *commands])


def _leaves(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command of a group with its full name. Typer's types for them are private."""
    if not isinstance(command, TyperGroup):
        yield words, command
        return
    for name, each in command.commands.items():
        yield from _leaves(f"{words} {name}", each)


def _command(words: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=words)
    yield f"### {words}"
    yield fence(" ".join([words, *command.collect_usage_pieces(context)]))
    yield prose(command.help)
    described = list(filter(None, (each.get_help_record(context) for each in command.params)))
    if described:
        yield table(("argument or option", "meaning"), [(code(name), about) for name, about in described])
