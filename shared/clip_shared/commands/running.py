"""How a command runs its work: an expected error is one line on standard error."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from clip_shared.errors import ClipsError

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work of a command, and return its result.

    Raises:
        typer.Exit: the work raised a ClipsError, which is printed; the exit status is 1.
    """
    try:
        return asyncio.run(work)
    except ClipsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
