"""The steps of the images' build without an engine: each service is installed alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.deployment import OWN, ROOT

PROGRAMS = Path(sys.executable).parent
# The modules that need an extra of clip-shared: a service that does not ask for it has no use for them.
OF_EXTRAS = {"registry-client": "clip_shared.contracts.registry_client"}
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
left_out = sys.argv[1].split(",")
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if "migrations" not in module.name and module.name not in left_out:
            importlib.import_module(module.name)
"""


def run(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the services, built as in the Dockerfile."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = tmp_path_factory.mktemp("sources")
    # Copies: a build must leave no files in the repository.
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("shared", "services"):
        shutil.copytree(ROOT / name, sources / name, ignore=unwanted)
    build = (PROGRAMS / "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    run(*build, "--wheel-dir", folder, sources / "shared", *(sources / "services" / name for name in OWN))
    return folder


@pytest.mark.parametrize("service", OWN)
def test_a_service_runs_on_its_lock_alone(service: str, wheels: Path, tmp_path: Path) -> None:
    package = service.replace("-", "_")
    lock = ROOT / "requirements" / f"{service}.lock"
    environment = tmp_path / "app"
    install = (PROGRAMS / "uv", "pip", "install", "--quiet", "--python", environment)
    run(PROGRAMS / "uv", "venv", "--quiet", "--no-project", "--python", sys.executable, environment)
    run(*install, "--require-hashes", "--only-binary", ":all:", "--requirement", lock)
    own = [path for path in wheels.iterdir() if path.name.startswith((f"{package}-", "clip_shared-"))]
    run(*install, "--no-deps", "--no-index", *own)
    asked = (ROOT / "services" / service / "pyproject.toml").read_text()
    left_out = ",".join(module for extra, module in OF_EXTRAS.items() if f"[{extra}]" not in asked)
    run(environment / "bin" / "python", "-Ic", IMPORT_EVERYTHING, left_out, package, "clip_shared")
    for script in (service, "clip-shared"):
        assert "Usage:" in run(environment / "bin" / script, "--help")
