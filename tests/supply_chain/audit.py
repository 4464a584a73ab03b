"""Which of the pinned packages are known to be vulnerable, as pip-audit finds them."""

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

# One of dev.lock holds every package of the others, but for the benchmarks'.
LOCKS = ("dev", "bench", "recordings")


class AuditResult(IntEnum):
    """The exit codes of ``make audit``."""

    CLEAN = 0
    FINDINGS = 1
    NOT_ASKED = 2


@dataclass(frozen=True)
class Audit:
    """What pip-audit said: what is vulnerable, a sentence each, and the packages that it knows nothing of."""

    findings: tuple[str, ...]
    unknown: tuple[str, ...]
    asked: int
    error: str = ""

    @property
    def verdict(self) -> AuditResult:
        """Findings count before what is unknown; an audit that asked about nothing is not clean."""
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
                return Audit((), (), 0, error=f"{osv} holds no advisory")
            url = stack.enter_context(advisories.answering(known))
            # A cache would answer from another database.
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
            error=result.stderr.strip().splitlines()[-1] if result.stderr else "pip-audit says nothing",
        )
    findings = [
        f"{each['name']} {each['version']}: {found['id']}, mended in {versions(found) or 'no version yet'}"
        for each in packages
        for found in each.get("vulns", ())
    ]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    return Audit(tuple(findings), tuple(unknown), len(packages) - len(unknown))


def versions(found: dict[str, Any]) -> str:
    return ", ".join(found["fix_versions"])
