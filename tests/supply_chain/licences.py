"""Check the licences of the parts of the images against a list of allowed licences."""

import json
import subprocess
from dataclasses import dataclass

from tests.supply_chain.parts import CARRIED, PROGRAMS, normal, shipped

# As packages write them. They require that their text and the names of the authors are shipped too; MPL-2.0
# also requires the source of its files, which are unchanged and public.
ALLOWED = frozenset({
    "0BSD",
    "3-Clause BSD License",
    "Apache Software License",
    "Apache Software License; BSD License",
    "Apache Software License; MIT License",
    "Apache-2.0",
    "Apache-2.0 AND BSD-2-Clause",
    "Apache-2.0 AND MIT",
    "Apache-2.0 OR BSD-2-Clause",
    "Apache-2.0 OR BSD-3-Clause",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC License (ISCL)",
    "MIT",
    "MIT AND PSF-2.0",
    "MIT License",
    "MIT OR Apache-2.0",
    "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
})  # fmt: skip
# Separate programs: who distributes an image must offer the source of these programs, not that of Clips.
ALLOWED_PROGRAMS = {"ffmpeg": "GPL-3.0-or-later", "ffprobe": "GPL-3.0-or-later"}


@dataclass(frozen=True)
class Licensed:
    """A part of the images, its licence, and the services that ship it."""

    name: str
    version: str
    licence: str
    services: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        return self.licence in ALLOWED or ALLOWED_PROGRAMS.get(self.name) == self.licence


def licensed() -> list[Licensed]:
    """Return every part that an image ships, by name; a package that is not installed here is left out."""
    by_package = shipped()
    found = [
        Licensed(each["Name"], each["Version"], each["License"], tuple(by_package[normal(each["Name"])]))
        for each in installed(list(by_package))
    ]
    for service, parts in CARRIED.items():
        found += [Licensed(part.name, part.version(), part.licence, (service,)) for part in parts]
    return sorted(found, key=lambda part: part.name.lower())


def installed(names: list[str]) -> list[dict[str, str]]:
    """Return what pip-licenses reads from the installed packages of these names."""
    command = [str(PROGRAMS / "pip-licenses"), "--format=json", "--packages", *names]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: list[dict[str, str]] = json.loads(result.stdout)
    return found
