"""The Helm chart as Helm renders it, and the lists of settings in its values schema.

``python -m tests.support.chart`` writes those lists; with ``--check`` it fails when they are out of date.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

from tests.support.deployment import ROOT, names_of, settings_of

CHART = ROOT / "deploy" / "helm" / "clips"
SCHEMA = CHART / "values.schema.json"
# The components that are services, and their programs.
SERVICES = {
    "cutter": "clip-cutter",
    "registry": "clip-registry",
    "gateway": "clip-gateway",
    "janitor": "janitor",
}
HOOKS, CRONS = ("topics", "migrate"), ("tick", "sweep")

Object = dict[str, Any]
# As safe as yaml.safe_load, and ten times as fast.
FAST_LOADER = yaml.CSafeLoader


def _values(path: Path) -> Object:
    values: Object = yaml.safe_load(path.read_text()) or {}
    return values


VALUES: dict[str, Object] = {
    "default": {},
    **{path.stem.removesuffix("-values"): _values(path) for path in sorted((CHART / "ci").iterdir())},
}
"""The values that every check uses: the chart's defaults, and those of the folder ``ci``."""


def rendered(
    values: Object | str = "default", *, release: str = "clips", namespace: str = "clips"
) -> list[Object]:
    """Return the objects of a release, in the order of their templates.

    The result is cached and shared by all callers, which must not change it.

    Args:
        values: a name in VALUES, or the values themselves.
        release: the name of the release.
        namespace: the namespace of the release.

    Raises:
        helm_python.HelmError: the values do not follow the schema, or a template fails.
    """
    given = VALUES[values] if isinstance(values, str) else values
    return _rendered(json.dumps(given), release, namespace)


@cache
def _rendered(values: str, release: str, namespace: str) -> list[Object]:
    files = _chart().render(json.loads(values), name=release, namespace=namespace)
    texts = (text for path, text in sorted(files.items()) if path.endswith(".yaml"))
    return [each for text in texts for each in yaml.load_all(text, FAST_LOADER) if each]


def notes(values: Object | str = "default") -> str:
    """Return the text that Helm prints after an install."""
    given = VALUES[values] if isinstance(values, str) else values
    return _chart().render(given, name="clips", namespace="clips")["clips/templates/NOTES.txt"]


@cache
def _chart() -> Chart:
    return Chart.load(CHART)


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the pod templates of all workloads, by component."""
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in _templates(objects)}


def _templates(objects: list[Object]) -> Iterator[Object]:
    for each in objects:
        if each["kind"] in {"Deployment", "Job"}:
            yield each["spec"]["template"]
        elif each["kind"] == "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]


def container_of(pod: Object) -> Object:
    """Return the only container of a pod template."""
    (container,) = pod["spec"]["containers"]
    found: Object = container
    return found


def environment_of(pod: Object, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the environment of a pod's container, as the kubelet makes it.

    Raises:
        KeyError: a variable names a Secret, or a key of a Secret, that does not exist.
    """
    return {each["name"]: _value(each, secrets) for each in container_of(pod)["env"]}


def _value(variable: Object, secrets: Mapping[str, Mapping[str, str]]) -> str:
    if "value" in variable:
        return str(variable["value"])
    reference = variable["valueFrom"]["secretKeyRef"]
    return secrets[reference["name"]][reference["key"]]


def secrets_named(pod: Object) -> set[tuple[str, str]]:
    """Return the Secrets and keys that a pod's environment reads."""
    sources = (each["valueFrom"]["secretKeyRef"] for each in container_of(pod)["env"] if "valueFrom" in each)
    return {(each["name"], each["key"]) for each in sources}


def settings_for_values(component: str) -> list[str]:
    """Return the settings allowed in a service's ``environment``: those that the chart does not set."""
    own = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", (CHART / "templates" / "_environment.tpl").read_text()))
    return sorted(names_of(settings_of(SERVICES[component])) - own)


def schema() -> Object:
    """Return the schema of the values, with the lists of the current settings."""
    document: Object = json.loads(SCHEMA.read_text())
    names = {component: settings_for_values(component) for component in SERVICES}
    for component, found in names.items():
        _names_in(document["properties"][component]["properties"])["enum"] = found
    everybodys = set.intersection(*(set(found) for found in names.values()))
    _names_in(document["properties"])["enum"] = sorted(everybodys)
    return document


def _names_in(properties: Object) -> Object:
    names: Object = properties["environment"]["allOf"][1]["propertyNames"]
    return names


def main() -> None:
    """Write the schema, or check it."""
    text = json.dumps(schema(), indent=2) + "\n"
    if "--check" not in sys.argv:
        SCHEMA.write_text(text)
    elif SCHEMA.read_text() != text:
        sys.exit(f"{SCHEMA.relative_to(ROOT)} is out of date: make chart-schema")


if __name__ == "__main__":
    main()
