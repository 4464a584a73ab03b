"""The tmpfs mounts of docker-compose.yml, mounted as Docker mounts them."""

import os
import subprocess
import sys

import pydantic_core._pydantic_core
import pytest
from tests.deployment import final_stage, services

# Docker's own, then what runc takes from the folder below: in /mnt it is root's, as runc makes it.
DOCKER = "noexec,nosuid,nodev,mode=755"
# The options of every mount, by "container:place".
MOUNTS = {
    f"{name}:{mount.partition(':')[0]}": mount.partition(":")[2]
    for name, service in services().items()
    for mount in service["tmpfs"]
}
# Everybody's who is not root, like that of any image here.
USER = final_stage().only("USER").partition(":")[0]
TWO_STARTS = """
for start in first second; do
  mount -t tmpfs -o "$1" tmpfs /mnt
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
    """Run a script where it may mount, with a mount's options."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    every = f"{DOCKER},{options}" if options else DOCKER
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", every, *more]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("mount", MOUNTS)
def test_can_be_written_at_every_start(mount: str) -> None:
    run(TWO_STARTS, MOUNTS[mount], USER)


def test_kafka_can_load_its_codecs() -> None:
    """It unpacks the libraries of snappy and zstd into /tmp; without them it refuses what they packed."""
    run(LOAD_LIBRARY, MOUNTS["kafka:/tmp"], pydantic_core._pydantic_core.__file__, sys.executable)
