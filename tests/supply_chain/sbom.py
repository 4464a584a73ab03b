"""A software bill of materials of each image: packages, the programs in them, and dependencies."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.supply_chain.parts import CARRIED, PROGRAMS, Carried, normal, pins

Document = dict[str, Any]


def bill_of_materials(service: str) -> Document:
    """Return the parts of a service's image without its base image, as a CycloneDX 1.6 document.

    The packages installed here give licences and dependencies; only packages of the service's lock file are
    kept. The same packages give the same document.
    """
    document: Document = json.loads(installed())
    by_name = {normal(each["name"]): each for each in document["components"]}
    document["metadata"]["component"] = {**by_name[service], "type": "application"}
    kept = [by_name[name] for name in ["clip-shared", *pins(service)] if name in by_name]
    for each in [document["metadata"]["component"], *kept]:
        leave_out_this_machine(each)
    carried = [component(part) for part in CARRIED.get(service, ())]
    document["components"] = kept + carried
    refs = {each["bom-ref"] for each in (*kept, by_name[service])}
    document["dependencies"] = [
        {**each, "dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in refs]}
        for each in document["dependencies"]
        if each["ref"] in refs
    ] + [{"ref": each["bom-ref"]} for each in carried]
    return document


@cache
def installed() -> str:
    """Return the document of all packages that are installed here."""
    program = str(PROGRAMS / "cyclonedx-py")
    command = [program, "environment", sys.executable, "--output-reproducible", "--sv=1.6", "--of=JSON"]
    # Not validated here, which takes ten times as long: tests validate it.
    result = subprocess.run(
        [*command, "--no-validate"], capture_output=True, text=True, check=True, timeout=110
    )
    return result.stdout


def leave_out_this_machine(component: Document) -> None:
    """Remove the path on this machine of a package of this repository."""
    references = component.get("externalReferences", [])
    component["externalReferences"] = [each for each in references if not each["url"].startswith("file:")]


def component(part: Carried) -> Document:
    """Return a program inside a package as a component."""
    version = part.version()
    return {
        "bom-ref": f"{part.name}=={version}",
        "type": "application",
        "name": part.name,
        "version": version,
        "purl": f"{part.purl}@{version}",
        "licenses": [{"expression": part.licence}],
        "properties": [{"name": "clips:inside", "value": part.inside}],
    }


def write(service: str, folder: Path) -> tuple[Path, int]:
    """Write a service's document into a folder; return its path and the number of components."""
    document = bill_of_materials(service)
    path = folder / f"{service}.cdx.json"
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return path, len(document["components"])
