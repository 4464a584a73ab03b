"""Docker or Podman, as ``TEST_IMAGES`` names, and a base image for machines that cannot pull images.

``TEST_IMAGES_BUILD`` is more options for its build command. ``TEST_IMAGES_BASE=debian`` makes the image that
the Dockerfile starts from out of Debian's packages, with this machine's certificates and pip settings.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.deployment import ROOT, stages

ENGINE = os.environ.get("TEST_IMAGES")
STAND_IN = "localhost/clips-base:debian"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
CONTAINERFILE = """
FROM scratch
ADD base.tar /
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
RUN ln -s python3 /usr/bin/python
ENV PIP_BREAK_SYSTEM_PACKAGES=1
"""


def engine(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of the engine in the root of the repository."""
    result = subprocess.run(
        [str(ENGINE), *arguments],
        cwd=ROOT,
        env=os.environ | surroundings(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def surroundings() -> dict[str, str]:
    """Return podman's options for machines without systemd; empty on other machines."""
    if ENGINE != "podman" or Path("/run/systemd/system").exists():
        return {}
    return {
        "CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf")),
        "BUILDAH_ISOLATION": "chroot",
    }


def build_options(scratch: Path) -> list[str]:
    """Return the options of every build; build the base image first when the environment asks for it."""
    options = shlex.split(os.environ.get("TEST_IMAGES_BUILD", ""))
    if os.environ.get("TEST_IMAGES_BASE") != "debian":
        return options
    make_stand_in(scratch)
    kind = "docker-image" if ENGINE == "docker" else "container-image"
    return [*options, "--network=host", f"--build-context={stages()['python'].base}={kind}://{STAND_IN}"]


def make_stand_in(scratch: Path) -> None:
    """Build an image with Debian's Python."""
    if engine("image", "inspect", STAND_IN, check=False).returncode == 0:
        return
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=apt",
        f"--include={PACKAGES}",
        SUITE,
        str(scratch / "base.tar"),
    ]
    subprocess.run(command, check=True, timeout=600)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", scratch)
    settings = Path("/etc/pip.conf")
    (scratch / "pip.conf").write_text(settings.read_text() if settings.exists() else "")
    (scratch / "Containerfile").write_text(CONTAINERFILE)
    engine(
        "build", "--network=host", f"--tag={STAND_IN}", f"--file={scratch / 'Containerfile'}", str(scratch)
    )
