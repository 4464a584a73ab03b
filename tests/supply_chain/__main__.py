"""``make sbom``, ``make licences``, ``make audit``."""

from pathlib import Path
from typing import Annotated

import typer

from tests.supply_chain import advisories
from tests.supply_chain import sbom as bills
from tests.supply_chain.audit import LOCKS, Audit, AuditResult
from tests.supply_chain.audit import audit as run_audit
from tests.supply_chain.licences import licensed
from tests.support.deployment import OWN, ROOT

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def sbom(folder: Annotated[Path, typer.Argument(help="The folder for the documents.")]) -> None:
    """Write the bill of materials of each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for service in OWN:
        path, count = bills.write(service, folder)
        typer.echo(f"{path}: {count} components")


@app.command()
def licences(
    *,
    quiet: Annotated[bool, typer.Option(help="List only parts with a licence that is not allowed.")] = False,
) -> None:
    """List the parts of the images and their licences. Exit code 1 when a licence is not allowed."""
    parts = licensed()
    for part in parts:
        if not quiet or not part.allowed:
            note = "" if part.allowed else "  NOT ALLOWED: see tests/supply_chain/licences.py"
            names = ", ".join(part.services) if len(part.services) < len(OWN) else "all"
            typer.echo(f"{part.name:26} {part.version:32} {part.licence:38} {names}{note}")
    raise typer.Exit(0 if all(part.allowed for part in parts) else 1)


@app.command()
def audit(
    osv: Annotated[Path | None, typer.Option(help="A folder or zip of OSV advisories.")] = None,
) -> None:
    """Find known vulnerabilities. Exit code: 0 none, 1 some, 2 not every package could be checked."""
    result = run_audit([ROOT / "requirements" / f"{lock}.lock" for lock in LOCKS], osv=osv)
    for line in result.findings:
        typer.echo(line)
    typer.echo(summary(result))
    raise typer.Exit(result.exit_code)


def summary(result: Audit) -> str:
    """Return a sentence on how complete the audit is."""
    asked = f"{result.asked} packages asked about, {len(result.findings)} advisories"
    if result.exit_code is not AuditResult.NOT_ASKED and not result.unknown:
        return f"{asked}."
    reason = (
        result.error
        or f"this index has no data on {len(result.unknown)} packages, such as {result.unknown[0]}"
    )
    return (
        f"{asked}. NOT EVERY PACKAGE COULD BE CHECKED: {reason}.\n"
        "pip-audit reads advisories from the Python Package Index; most mirrors have none. Without it,\n"
        f"download {advisories.SOURCE} on another machine, and run: make audit OSV=all.zip"
    )


if __name__ == "__main__":
    app()
