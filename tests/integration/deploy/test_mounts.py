"""The tmpfs mounts of docker-compose.yml, mounted as Docker mounts them."""

import os
import re
import subprocess
import sys

import pydantic_core._pydantic_core
import pytest
from tests.support.deployment import final_stage, services, stages

DOCKER = "noexec,nosuid,nodev"
# The options of every mount, by "container:place".
MOUNTS = {
    f"{name}:{mount.partition(':')[0]}": mount.partition(":")[2]
    for name, service in services().items()
    for mount in service["tmpfs"]
}
# The users of the folders, and folders that images leave writable; the runtime creates others as root.
OWN_USER = final_stage().only("USER").partition(":")[0]
USERS = {"grafana": "472", "kafka": "1000", "postgres": "999", "prometheus": "65534", "seaweedfs": "1000"}
OWN_FOLDERS = {
    place: mode
    for run in stages()["clip-cutter"].all("RUN")
    for mode, place in re.findall(r"mkdir --mode=(\d+) (\S+)", run)
}
OPEN_FOLDERS = OWN_FOLDERS | {"/tmp": "1777", "/var/run/postgresql": "3777"}  # noqa: S108 - inside a container
TWO_STARTS = """
for start in first second; do
  mount -t tmpfs -o "$1" tmpfs /mnt
  $3
  setpriv --reuid="$2" --regid="$2" --clear-groups touch "/mnt/$start"
  umount /mnt
done
"""
LOAD_LIBRARY = """
mount -t tmpfs -o "$1" tmpfs /mnt
cp "$2" /mnt/library.so
"$3" -c 'import ctypes; ctypes.CDLL("/mnt/library.so")'
"""


def run(script: str, options: str, *more: str) -> None:
    """Run a script that may mount, with the options of a mount after those of Docker."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", f"{DOCKER},{options}", *more]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("runc", ["1.1.5", "1.1.8"])
def test_can_be_written_at_every_start(mount: str, runc: str) -> None:
    """Both use the mode of the folder below: the older after mounting, the newer as a first option."""
    name, place = mount.split(":")
    below = OPEN_FOLDERS.get(place, "755")
    if runc == "1.1.5":
        run(TWO_STARTS, MOUNTS[mount], USERS.get(name, OWN_USER), f"chmod {below} /mnt")
    else:
        run(TWO_STARTS, f"mode={below},{MOUNTS[mount]}", USERS.get(name, OWN_USER), "true")


def test_kafka_can_load_its_codecs() -> None:
    """Kafka unpacks snappy and zstd into /tmp; without them, it refuses records with these codecs."""
    run(LOAD_LIBRARY, MOUNTS["kafka:/tmp"], pydantic_core._pydantic_core.__file__, sys.executable)
