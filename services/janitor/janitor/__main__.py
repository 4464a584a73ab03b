"""The command line of the janitor."""

import typer

from clip_shared.service import serve as serve_app
from janitor.app import NAME, build
from janitor.settings import Settings

cli = typer.Typer(
    no_args_is_help=True,
    help="Expires clips that nobody kept, and deletes the objects that clips have let go.",
)


@cli.callback()
def commands() -> None:
    """Keep ``serve`` a command of its own, though it is the only one."""


@cli.command()
def serve() -> None:
    """Run the service; the environment says how."""
    serve_app(NAME, Settings, build)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
