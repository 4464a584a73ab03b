"""``make env`` writes all settings that docker compose needs, with new secrets."""

import shutil
import subprocess
from pathlib import Path

from tests.support.deployment import ROOT, SECRETS, services

ENOUGH_HEX_DIGITS = 64


def make_env(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--directory", folder, "env"], capture_output=True, text=True, timeout=30, check=False
    )


def test_makes_all_that_compose_needs(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    assert make_env(tmp_path).returncode == 0
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o077 == 0, "other users may read it"
    lines = made.read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert services(environment)
    secrets = {environment[name] for name in SECRETS}
    assert len(secrets) == len(SECRETS)
    assert all(len(secret) == ENOUGH_HEX_DIGITS for secret in secrets)


def test_leaves_an_existing_one_alone(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".env").write_text("mine")
    assert make_env(tmp_path).returncode != 0
    assert (tmp_path / ".env").read_text() == "mine"
