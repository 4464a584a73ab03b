"""``docs/reference/settings.md``: every variable that a service reads, from its settings model."""

import tempfile
from collections.abc import Mapping
from enum import EnumMeta
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import clip_cutter.settings
import clip_gateway.settings
import clip_registry.settings
import clip_shared.storage
import janitor.settings
from tests.reference.markdown import code, codes, document, prose, table

SERVICES: Mapping[str, type[BaseSettings]] = {
    "clip-cutter": clip_cutter.settings.CutterSettings,
    "clip-registry": clip_registry.settings.RegistrySettings,
    "clip-gateway": clip_gateway.settings.GatewaySettings,
    "janitor": janitor.settings.JanitorSettings,
}
HEADS = ("variable", "values", "default", "meaning")
ABOUT = """\
Settings are read from environment variables only. An empty variable counts as unset. A service that cannot
use its settings lists every problem on standard error and exits with 2.

The variables of `docker-compose.yml` are in [.env.example](../../.env.example). The use of each secret:
[deployment](../deployment.md). S3 servers, credentials, permissions: [storage](../storage.md)."""
CHAIN = """\
Without keys, boto3 uses its own chain of credentials: `AWS_ACCESS_KEY_ID` and its companions, `AWS_PROFILE`,
workload identity, the metadata of the instance ([storage](../storage.md#credentials))."""
PROFILE = "Each value of `SOURCE_STORAGE_PROFILES` is an object with these fields:"


def page() -> str:
    """Return the page."""
    shared = [_shared_section(each) for each in _shared_classes()]
    own = [_own_section(name, settings) for name, settings in SERVICES.items()]
    return document("Settings", ABOUT, *shared, *own)


def _shared_classes() -> list[type[BaseModel]]:
    """Return the classes of settings that several services share, the most shared first."""
    classes = {each for settings in SERVICES.values() for each in settings.__mro__ if _is_shared(each)}
    return sorted(classes, key=lambda each: (-len(_users(each)), each.__name__))


def _is_shared(each: type) -> bool:
    return each.__module__.startswith("clip_shared.") and bool(vars(each).get("__annotations__"))


def _users(shared: type) -> list[str]:
    return [name for name, settings in SERVICES.items() if issubclass(settings, shared)]


def _shared_section(shared: type[BaseModel]) -> str:
    users = _users(shared)
    heading = "Every service" if len(users) == len(SERVICES) else ", ".join(users)
    rows = [
        _row(name, shared.model_fields[name])
        for name in vars(shared)["__annotations__"]
        if name in shared.model_fields
    ]
    parts = [f"## {heading}", prose(shared.__doc__), table(HEADS, rows)]
    if shared is clip_shared.storage.FreeStorageSettings:
        parts.append(CHAIN)
    return "\n\n".join(parts)


def _own_section(name: str, settings: type[BaseSettings]) -> str:
    fields = {
        field: info for field, info in settings.model_fields.items() if not _is_inherited(settings, field)
    }
    parts = [f"## {name}", table(HEADS, [_row(field, info) for field, info in fields.items()])]
    if "source_storage_profiles" in fields:
        profile = clip_cutter.settings.SourceProfile.model_fields
        rows = [(code(field), *_row(field, info)[1:]) for field, info in profile.items()]
        parts += [PROFILE, table(("field", *HEADS[1:]), rows)]
    return "\n\n".join(parts)


def _is_inherited(settings: type[BaseSettings], field: str) -> bool:
    """Return whether a field comes unchanged from a shared class."""
    owner = next(each for each in settings.__mro__ if field in vars(each).get("__annotations__", {}))
    return _is_shared(owner)


def _row(name: str, info: FieldInfo) -> tuple[str, str, str, str]:
    variables = [name]
    if isinstance(info.validation_alias, AliasChoices):
        variables = [str(each) for each in info.validation_alias.choices]
    names = " or ".join(code(each.upper()) for each in variables)
    return names, _values(info), _default(info), info.description or ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    if info.default_factory is dict:
        return code("{}")
    default = info.default
    if default is None or default is PydanticUndefined or default == ():
        return ""
    if isinstance(default, bool):
        return code(str(default).lower())
    return code(_portable(default) if isinstance(default, Path) else default)


def _portable(path: Path) -> Path:
    """Return a path with this machine's temporary folder replaced by ``/tmp``."""
    folder = Path(tempfile.gettempdir())
    return Path("/tmp") / path.relative_to(folder) if path.is_relative_to(folder) else path  # noqa: S108 - shown, not used


def _values(info: FieldInfo) -> str:
    kind = _without_none(info.annotation)
    if get_origin(kind) is Literal:
        return codes(get_args(kind))
    if isinstance(kind, EnumMeta):
        return codes(each.value for each in kind)  # type: ignore[var-annotated]
    return ", ".join(filter(None, [_word(kind), _bounds(info)]))


def _without_none(annotation: Any) -> Any:
    kinds = [each for each in get_args(annotation) if each is not NoneType]
    return kinds[0] if NoneType in get_args(annotation) and len(kinds) == 1 else annotation


def _word(kind: Any) -> str:
    words = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true`, `false`",
        Path: "folder",
        SecretStr: "secret",
    }
    if kind in words:
        return words[kind]
    if get_origin(kind) in (tuple, frozenset):
        return "list"
    return (
        "JSON"
        if get_origin(kind) is dict
        else "URL"
        if getattr(kind, "__name__", "").endswith("Url")
        else "text"
    )


def _bounds(info: FieldInfo) -> str:
    least = next((each.ge for each in info.metadata if isinstance(each, Ge)), None)
    above = next((each.gt for each in info.metadata if isinstance(each, Gt)), None)
    most = next((each.le for each in info.metadata if isinstance(each, Le)), None)
    if least is not None and most is not None:
        return f"{least} to {most}"
    bounds = {"at least": least, "more than": above, "at most": most}
    return ", ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)
