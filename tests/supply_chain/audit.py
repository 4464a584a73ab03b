"""Find known vulnerabilities of the locked packages with pip-audit."""

import json
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tests.supply_chain import advisories
from tests.supply_chain.parts import PROGRAMS

# dev.lock has every package of the other lock files, except those of the benchmarks.
LOCKS = ("dev", "bench", "recordings")


class AuditResult(IntEnum):
    """The exit codes of ``make audit``."""

    CLEAN = 0
    FINDINGS = 1
    NOT_ASKED = 2


@dataclass(frozen=True)
class Audit:
    """The report of pip-audit: a sentence for each vulnerability, and the packages without data."""

    findings: tuple[str, ...]
    unknown: tuple[str, ...]
    asked: int
    error: str = ""

    @property
    def exit_code(self) -> AuditResult:
        """The exit code. Findings count before unknown packages; an audit of no package is not clean."""
        if self.findings:
            return AuditResult.FINDINGS
        return AuditResult.NOT_ASKED if self.unknown or self.error or not self.asked else AuditResult.CLEAN


def audit(locks: Iterable[Path], *, osv: Path | None) -> Audit:
    """Audit lock files against PyPI's advisories, or against a folder or archive of them."""
    with ExitStack() as stack:
        options = []
        if osv is not None:
            known = advisories.read(osv)
            if not known.count:
                return Audit((), (), 0, error=f"{osv} contains no advisories")
            url = stack.enter_context(advisories.answering(known))
            # The user's cache may hold answers of another database.
            cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="clips-audit-"))
            options = ["--vulnerability-service=osv", f"--osv-url={url}", f"--cache-dir={cache}"]
        return judged(run_pip_audit([f"--requirement={lock}" for lock in locks] + options))


def run_pip_audit(options: list[str]) -> subprocess.CompletedProcess[str]:
    command = [
        str(PROGRAMS / "pip-audit"),
        "--disable-pip",
        "--require-hashes",
        "--progress-spinner=off",
        "--format=json",
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=1800)


def judged(result: subprocess.CompletedProcess[str]) -> Audit:
    """Read pip-audit's report; it exits with 1 for findings and for errors, but an error has no report."""
    try:
        packages: list[dict[str, Any]] = json.loads(result.stdout)["dependencies"]
    except ValueError:
        return Audit(
            (),
            (),
            0,
            error=result.stderr.strip().splitlines()[-1] if result.stderr else "pip-audit printed nothing",
        )
    findings = [
        f"{each['name']} {each['version']}: {found['id']}, fixed in {versions(found) or 'no version yet'}"
        for each in packages
        for found in each.get("vulns", ())
    ]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    return Audit(tuple(findings), tuple(unknown), len(packages) - len(unknown))


def versions(found: dict[str, Any]) -> str:
    return ", ".join(found["fix_versions"])
