"""docker-compose.yml and the Dockerfile as their tools read them, and the services' settings."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from tests.reference.settings import SERVICES as SETTINGS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"

OWN = ("clip-cutter", "clip-registry", "clip-gateway", "janitor")
JOBS = ("topics", "migrate", "buckets")
# Secrets that must be set before a container starts: none of them has a default.
SECRETS = {
    "REGISTRY_GATEWAY_TOKEN",
    "REGISTRY_JANITOR_TOKEN",
    "POSTGRES_PASSWORD",
    "KAFKA_ADMIN_PASSWORD",
    "KAFKA_PLATFORM_PASSWORD",
    "KAFKA_CUTTER_PASSWORD",
    "KAFKA_REGISTRY_PASSWORD",
    "KAFKA_JANITOR_PASSWORD",
    "KAFKA_SCHEDULER_PASSWORD",
    "FREE_STORAGE_ADMIN_SECRET_KEY",
    "FREE_STORAGE_CUTTER_SECRET_KEY",
    "FREE_STORAGE_GATEWAY_SECRET_KEY",
    "FREE_STORAGE_JANITOR_SECRET_KEY",
    "SOURCE_STORAGE_SECRET_KEY",
    "JWT_SECRET",
}
ENVIRONMENT = {name: f"{name.lower()}-{'0' * 32}" for name in SECRETS} | {
    "JWT_ISSUER": "https://sign-in.example.com",
    "JWT_AUDIENCE": "clips",
}

# The Compose specification's interpolation, as far as the file uses it: $$, $NAME, ${NAME}, ${NAME:-default},
# ${NAME:?message}, ${NAME?message}; a default may hold another $NAME.
REFERENCE = re.compile(r"\$(?:(\$)|([A-Z0-9_]+)|\{([A-Z0-9_]+)(?:(:?[?-])([^}]*))?\})")


class MissingVariable(Exception):
    """A variable that ``docker compose`` requires is not set."""


def raw_compose() -> dict[str, Any]:
    """Return docker-compose.yml with its references to variables unresolved."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def compose(environment: Mapping[str, str] = ENVIRONMENT) -> dict[str, Any]:
    """Return docker-compose.yml as ``docker compose`` reads it in an environment.

    Raises:
        MissingVariable: a required variable is not set.
    """
    document: dict[str, Any] = _walk(raw_compose(), lambda text: interpolate(text, environment))
    return document


def services(environment: Mapping[str, str] = ENVIRONMENT) -> dict[str, dict[str, Any]]:
    """Return every container of docker-compose.yml, by name."""
    found: dict[str, dict[str, Any]] = compose(environment)["services"]
    return found


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Replace the references to variables in a value."""

    def value(match: re.Match[str]) -> str:
        escaped, bare, name, operator, argument = match.groups()
        if escaped:
            return "$"
        found = environment.get(bare or name)
        if operator in {":-", ":?"}:
            found = found or None
        if found is None and operator in {"?", ":?"}:
            raise MissingVariable(name)
        return found if found is not None else interpolate(argument or "", environment)

    return REFERENCE.sub(value, text)


def references() -> dict[str, set[str]]:
    """Return every variable of docker-compose.yml with the operators that follow it ("" without one)."""
    found: dict[str, set[str]] = {}
    for match in REFERENCE.finditer(COMPOSE.read_text()):
        _, bare, name, operator, argument = match.groups()
        if bare or name:
            found.setdefault(bare or name, set()).add(operator or "")
        for inner in REFERENCE.finditer(argument or ""):
            found.setdefault(inner[2] or inner[3], set()).add("")
    return found


def settings_of(service: str) -> type[BaseSettings]:
    """Return the settings class of a service."""
    return SETTINGS[service]


def names_of(settings: type[BaseSettings]) -> set[str]:
    """Return the environment variables that a settings class reads."""
    names: set[str] = set()
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        names |= {str(each) for each in alias.choices} if isinstance(alias, AliasChoices) else {name}
    return {name.upper() for name in names}


def _walk(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {key: _walk(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_walk(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a container."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def command_of(service: dict[str, Any]) -> list[str]:
    """Return what a container of our images runs: its entrypoint (or its image's), and its command."""
    if "entrypoint" in service:
        return [*service["entrypoint"], *service.get("command", [])]
    stage = stages()[service["build"]["args"]["SERVICE"]]
    command = service.get("command") or yaml.safe_load(final_stage().only("CMD"))
    return [*yaml.safe_load(stage.only("ENTRYPOINT")), *command]


@dataclass(frozen=True)
class BuildStage:
    """A stage of the Dockerfile: its base, its name, its instructions."""

    base: str
    name: str
    instructions: list[tuple[str, str]]

    def all(self, instruction: str) -> list[str]:
        """Return the arguments of every instruction with this keyword."""
        return [value for keyword, value in self.instructions if keyword == instruction]

    def only(self, instruction: str) -> str:
        """Return the arguments of the only instruction with this keyword."""
        (value,) = self.all(instruction)
        return value


def stages() -> dict[str, BuildStage]:
    """Return the Dockerfile's stages by name; the last stage has the empty name."""
    found: dict[str, BuildStage] = {}
    stage: BuildStage | None = None
    for keyword, value in _instructions():
        if keyword == "FROM":
            base, _, name = value.partition(" AS ")
            stage = found[name] = BuildStage(base, name, [])
        elif stage is not None:
            stage.instructions.append((keyword, value))
    return found


def final_stage() -> BuildStage:
    """Return the stage that becomes the image."""
    return stages()[""]


def _instructions() -> Iterator[tuple[str, str]]:
    lines = (line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, value = line.partition(" ")
        yield keyword, value
