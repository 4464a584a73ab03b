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
def sbom(folder: Annotated[Path, typer.Argument(help="Where the documents go.")]) -> None:
    """Write the bill of materials of each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for service in OWN:
        path, count = bills.write(service, folder)
        typer.echo(f"{path}: {count} components")


@app.command()
def licences(*, quiet: Annotated[bool, typer.Option(help="Only what may not be shipped.")] = False) -> None:
    """List what the images ship and under which licence; 1 when a licence is not on the list."""
    parts = licensed()
    for part in parts:
        if not quiet or not part.allowed:
            verdict = "" if part.allowed else "  NOT ALLOWED: see tests/supply_chain/licences.py"
            names = ", ".join(part.services) if len(part.services) < len(OWN) else "all"
            typer.echo(f"{part.name:26} {part.version:32} {part.licence:38} {names}{verdict}")
    raise typer.Exit(0 if all(part.allowed for part in parts) else 1)


@app.command()
def audit(
    osv: Annotated[Path | None, typer.Option(help="A folder or zip of OSV advisories.")] = None,
) -> None:
    """Ask for known vulnerabilities: 0 none, 1 some, 2 could not ask about everything."""
    result = run_audit([ROOT / "requirements" / f"{lock}.lock" for lock in LOCKS], osv=osv)
    for line in result.findings:
        typer.echo(line)
    typer.echo(summary(result))
    raise typer.Exit(result.verdict)


def summary(result: Audit) -> str:
    """Say in a sentence what an audit is worth."""
    asked = f"{result.asked} packages asked about, {len(result.findings)} advisories"
    if result.verdict is not AuditResult.NOT_ASKED and not result.unknown:
        return f"{asked}."
    reason = (
        result.error
        or f"{len(result.unknown)} packages are unknown to this index, {result.unknown[0]} for one"
    )
    return (
        f"{asked}. COULD NOT ASK ABOUT EVERYTHING: {reason}.\n"
        "pip-audit asks the Python Package Index, which has advisories; most mirrors have none. Without it,\n"
        f"fetch {advisories.SOURCE} elsewhere, and: make audit OSV=all.zip"
    )


if __name__ == "__main__":
    app()
