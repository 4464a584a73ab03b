"""The bill of materials, the licences and the audit, of the installed packages."""

import json
import socket
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from tests.supply_chain import advisories
from tests.supply_chain.audit import AuditResult, audit, judged, run_pip_audit
from tests.supply_chain.licences import Licensed, licensed
from tests.supply_chain.parts import CARRIED, PROGRAMS, normal, pins, shipped
from tests.supply_chain.sbom import bill_of_materials
from tests.support.deployment import OWN, ROOT

LOCK = ROOT / "requirements" / "build.lock"
PINNED = pins("build")


@pytest.mark.parametrize("service", OWN)
class TestBillOfMaterials:
    @pytest.fixture
    def document(self, service: str) -> dict[str, Any]:
        return bill_of_materials(service)

    def test_holds_what_the_image_installs(self, service: str, document: dict[str, Any]) -> None:
        listed = {normal(each["name"]): each["version"] for each in document["components"]}
        pinned = pins(service)
        assert pinned.items() <= listed.items()
        assert listed.keys() - pinned.keys() == {
            "clip-shared",
            *(normal(part.name) for part in CARRIED.get(service, ())),
        }

    def test_every_dependency_is_in_it(self, service: str, document: dict[str, Any]) -> None:
        root = document["metadata"]["component"]["bom-ref"]
        refs = {root, *(each["bom-ref"] for each in document["components"])}
        needed = {each["ref"]: set(each.get("dependsOn", ())) for each in document["dependencies"]}
        assert needed.keys() == refs
        assert set().union(*needed.values()) <= refs
        assert any(ref.startswith("pydantic==") for ref in needed[root]), service

    def test_says_nothing_of_this_machine(self, document: dict[str, Any]) -> None:
        assert str(ROOT) not in json.dumps(document)


def test_a_bill_of_materials_is_valid() -> None:
    """A few components of each kind: the validator takes seconds for a whole document."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - as above
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - as above

    document = bill_of_materials("clip-cutter")
    document["components"] = document["components"][:4] + document["components"][-2:]
    kept = {
        document["metadata"]["component"]["bom-ref"],
        *(each["bom-ref"] for each in document["components"]),
    }
    document["dependencies"] = [
        {**each, "dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in kept]}
        for each in document["dependencies"]
        if each["ref"] in kept
    ]
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
    assert error is None, error


class TestLicences:
    def test_every_part_is_listed_and_allowed(self) -> None:
        parts = licensed()
        names = {normal(part.name) for part in parts}
        assert shipped().keys() <= names
        assert {"ffmpeg", "ffprobe", "htmx-org"} <= names
        assert [part for part in parts if not part.allowed] == []

    @pytest.mark.parametrize(
        ("name", "licence"),
        [("library", "GPL-3.0-or-later"), ("library", "UNKNOWN"), ("ffmpeg", "Proprietary")],
    )
    def test_another_licence_is_not_allowed(self, name: str, licence: str) -> None:
        assert not Licensed(name, "1", licence, ("janitor",)).allowed


def advisory(package: str, **affected: Any) -> dict[str, Any]:
    """An advisory as osv.dev writes it."""
    about = {"package": {"ecosystem": "PyPI", "name": package}, **affected}
    return {"schema_version": "1.7.0", "id": f"TEST-{package}", "summary": "A fault", "affected": [about]}


def archive(folder: Path, *found: dict[str, Any]) -> Path:
    path = folder / "all.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number, each in enumerate(found):
            packed.writestr(f"TEST-{number}.json", json.dumps(each))
    return path


class TestAudit:
    """``make audit OSV=…``: pip-audit reads the advisories from files."""

    def test_finds_a_pinned_version(self, tmp_path: Path) -> None:
        versions = [PINNED["packaging"]]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999.1"}]}]
        path = archive(
            tmp_path,
            advisory("Packaging", versions=versions),
            advisory("hatchling", ranges=ranges),
            advisory("pluggy", versions=["0.0.1"]),
            advisory("a-package-that-is-not-pinned", versions=versions),
        )
        result = audit([LOCK], osv=path)
        assert result.exit_code is AuditResult.FINDINGS
        assert sorted(result.findings) == [
            f"hatchling {PINNED['hatchling']}: TEST-hatchling, fixed in 9999.1",
            f"packaging {PINNED['packaging']}: TEST-Packaging, fixed in no version yet",
        ]
        assert result.asked == len(PINNED)

    def test_is_clean_without_findings(self, tmp_path: Path) -> None:
        (tmp_path / "one.json").write_text(json.dumps(advisory("pluggy", versions=["0.0.1"])))
        assert audit([LOCK], osv=tmp_path).exit_code is AuditResult.CLEAN

    def test_an_empty_database_clears_nobody(self, tmp_path: Path) -> None:
        assert audit([LOCK], osv=tmp_path).exit_code is AuditResult.NOT_ASKED

    def test_without_an_answer_nothing_is_clean(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            gone = listener.getsockname()[1]
        result = judged(
            run_pip_audit(
                [
                    f"--requirement={LOCK}",
                    "--vulnerability-service=osv",
                    f"--osv-url=http://127.0.0.1:{gone}/v1/query",
                    f"--cache-dir={tmp_path}",
                ]
            )
        )
        assert result.exit_code is AuditResult.NOT_ASKED
        assert result.error

    def test_an_index_that_knows_no_advisories_clears_nobody(self) -> None:
        skipped = {"name": "idna", "skip_reason": "Dependency not found on PyPI and could not be audited"}
        known = {"name": "six", "version": "1", "vulns": []}
        report = json.dumps({"dependencies": [skipped, known]})
        result = judged(subprocess.CompletedProcess([], 0, report, ""))
        assert result.exit_code is AuditResult.NOT_ASKED
        assert result.unknown == ("idna",)


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("0.9", False),
        ("1.0", True),
        ("1.9.9", True),
        ("2.0", False),
        ("2.9", False),
        ("3.0", True),
        ("3.1", False),
    ],
)
def test_ranges_are_read_as_osv_writes_them(version: str, *, affected: bool) -> None:
    events = [{"introduced": "3.0"}, {"last_affected": "3.0"}, {"introduced": "1.0"}, {"fixed": "2.0"}]
    assert advisories.in_range(events, Version(version)) is affected


def test_the_hooks_call_make() -> None:
    subprocess.run(
        [PROGRAMS / "pre-commit", "validate-config", ROOT / ".pre-commit-config.yaml"], check=True, timeout=60
    )
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make lint", "make test-unit"]
