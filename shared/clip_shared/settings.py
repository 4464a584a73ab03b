"""Settings that several services share, read from the environment alone and checked at start-up."""

import sys
from typing import NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Loaded = TypeVar("Loaded", bound=BaseSettings)


class EnvironmentSettings(BaseSettings):
    """Base of all settings: read from the environment, immutable. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")


def load_settings(settings_class: type[Loaded]) -> Loaded:
    """Read settings from the environment, or exit with status 2 and every problem on standard error."""
    try:
        return settings_class()
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    lines = ["The settings cannot be used:"]
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place = "__".join(str(part) for part in detail["loc"]).upper()
        lines.append(f"  {place}: {detail['msg']}" if place else f"  {detail['msg']}")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(2)
