"""The Helm chart: its values, its objects, and whether the services accept them.

``make test-helm`` installs it into a real API server.
"""

import json
import re
import tomllib
from importlib.metadata import entry_points
from ipaddress import ip_address, ip_network

import httpx
import kubernetes_validate
import pytest
import yaml
from fastapi import FastAPI
from helm_python import HelmValuesError, lint
from pydantic_settings import BaseSettings
from tests.support.chart import (
    CHART,
    CRONS,
    HOOKS,
    SCHEMA,
    SERVICES,
    VALUES,
    Object,
    container_of,
    environment_of,
    notes,
    of_kind,
    pods,
    rendered,
    schema,
    secrets_named,
    settings_for_values,
)
from tests.support.deployment import OWN, ROOT, command_of, names_of, services, settings_of

from clip_gateway.app import build as build_gateway
from clip_gateway.settings import GatewaySettings
from clip_registry.app import build as build_registry
from clip_registry.settings import DatabaseSettings, RegistrySettings
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.access import ACCESS
from clip_shared.contracts.topics import TOPICS
from janitor.settings import SweepSettings

EVERY = pytest.mark.parametrize("values", VALUES)
EVERY_SERVICE = pytest.mark.parametrize("component", SERVICES)
COMPONENTS = (*SERVICES, *HOOKS, *CRONS)
# Kinds of other projects, which the API server of `make test-helm` has.
FOREIGN_GROUPS = ("keda.sh", "monitoring.coreos.com")
OLDEST, NEWEST = "1.29", "1.37"
JOB_SETTINGS: dict[str, type[BaseSettings]] = {
    "topics": KafkaSettings,
    "migrate": DatabaseSettings,
    "tick": KafkaSettings,
    "sweep": SweepSettings,
}
USER_OF_THE_BUS = {"topics": "admin", "tick": "scheduler"}


def secret(key: str) -> str:
    """Return a value for a key of a Secret."""
    if key == "DATABASE_URL":
        return "postgresql://clips:secret@postgres.example.com/clips"
    if key == "SOURCE_STORAGE_PROFILES":
        return '{"archive": {"buckets": ["vods"], "access_key": "sources", "secret_key": "secret"}}'
    return f"{key.lower()}-{'0' * 32}"


def given_secrets(objects: list[Object]) -> dict[str, dict[str, str]]:
    """Return all Secrets that a release reads."""
    made: dict[str, dict[str, str]] = {}
    for pod in pods(objects).values():
        for name, key in secrets_named(pod):
            made.setdefault(name, {})[key] = secret(key)
    return made


def environment(values: Object | str, component: str) -> dict[str, str]:
    objects = rendered(values)
    return environment_of(pods(objects)[component], given_secrets(objects))


def load(
    settings_class: type[BaseSettings], found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> BaseSettings:
    """Return the settings that a service loads from an environment alone."""
    for variable in names_of(settings_class):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    return settings_class()


class TestValues:
    @EVERY
    def test_helm_has_nothing_to_say(self, values: str) -> None:
        found = lint(CHART, VALUES[values], strict=True)
        assert found["errors"] == []
        assert [each["error"] for each in found["messages"]] == ["icon is recommended"]

    def test_the_schema_knows_the_services_settings(self) -> None:
        assert json.loads(SCHEMA.read_text()) == schema(), "make chart-schema"

    @EVERY_SERVICE
    def test_no_secret_may_stand_among_them(self, component: str) -> None:
        settings = settings_of(SERVICES[component])
        secrets = {
            name.upper()
            for name, field in settings.model_fields.items()
            if "SecretStr" in str(field.annotation)
        }
        assert secrets
        assert not secrets & set(settings_for_values(component))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"cuter": {}}, "cuter"),
            ({"registry": {"replica": 2}}, "replica"),
            ({"registry": {"environment": {"CLIP_RETENTION_DAY": "7"}}}, "CLIP_RETENTION_DAY"),
            # Of another service.
            ({"registry": {"environment": {"CUT_MODE": "copy"}}}, "CUT_MODE"),
            # The chart's own, and a secret.
            ({"gateway": {"environment": {"PUBLIC_URL": "https://clips.example.com"}}}, "PUBLIC_URL"),
            ({"gateway": {"environment": {"JWT_SECRET": "secret"}}}, "JWT_SECRET"),
            ({"environment": {"CUT_MODE": "copy"}}, "CUT_MODE"),
            # As YAML has it: Helm would make 1e+06 of a million.
            ({"registry": {"environment": {"MAX_EPHEMERAL_CLIPS_PER_ACCOUNT": 1000000}}}, "string"),
            ({"cutter": {"sources": {"archive": {"buckets": ["vods"], "secret_key": "x"}}}}, "secret_key"),
            ({"cutter": {"sources": {"archive": {"region": "us-east-1"}}}}, "buckets"),
            ({"gateway": {"signIn": {"algorithm": "RS256"}}}, "jwksUrl"),
            ({"gateway": {"publicUrl": "https://example.com/clips"}}, "publicUrl"),
            ({"kafka": {"bootstrapServers": "kafka"}}, "bootstrapServers"),
            ({"tick": {"schedule": "daily"}}, "schedule"),
        ],
    )
    def test_wrong_ones_are_refused(self, values: Object, message: str) -> None:
        with pytest.raises(HelmValuesError, match=message):
            rendered(values)

    def test_the_chart_has_the_version_of_the_packages(self) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        for name in OWN:
            package = tomllib.loads((ROOT / "services" / name / "pyproject.toml").read_text())
            assert chart["appVersion"] == package["project"]["version"]


@EVERY
class TestObjects:
    @pytest.mark.parametrize("version", [OLDEST, NEWEST])
    def test_follow_the_schemas_of_kubernetes(self, values: str, version: str) -> None:
        for each in rendered(values):
            if not each["apiVersion"].startswith(FOREIGN_GROUPS):
                kubernetes_validate.validate(each, version, strict=True)

    def test_have_names_of_their_own(self, values: str) -> None:
        objects = rendered(values)
        names = [(each["kind"], each["metadata"]["name"]) for each in objects]
        assert len(set(names)) == len(names)
        assert all(each["metadata"]["name"].startswith("clips-") for each in objects)

    def test_are_named_within_the_limits_of_kubernetes(self, values: str) -> None:
        longest = "a" * 53  # of a release
        for each in rendered(values, release=longest):
            assert len(each["metadata"]["name"]) <= (52 if each["kind"] == "CronJob" else 63)

    def test_of_two_releases_have_nothing_to_do_with_each_other(self, values: str) -> None:
        ours, theirs = rendered(values, release="clips"), rendered(values, release="clips-two")
        assert not {each["metadata"]["name"] for each in ours} & {each["metadata"]["name"] for each in theirs}
        labels = [pod["metadata"]["labels"] for pod in pods(theirs).values()]
        assert not [
            selector for selector in selectors(ours) if any(selects(selector, each) for each in labels)
        ]

    def test_select_the_pods_of_one_component(self, values: str) -> None:
        objects = rendered(values)
        labels = {component: pod["metadata"]["labels"] for component, pod in pods(objects).items()}
        found = [
            {name for name, each in labels.items() if selects(selector, each)}
            for selector in selectors(objects)
        ]
        assert all(len(each) == 1 for each in found), found
        assert {name for each in found for name in each} == set(COMPONENTS)

    def test_say_where_their_images_are(self, values: str) -> None:
        image = {"registry": "", "repository": "clips", "tag": "0.1.0", **VALUES[values].get("image", {})}
        prefix = "/".join(filter(None, (image["registry"], image["repository"])))
        programs = SERVICES | {
            "topics": "janitor",
            "migrate": "clip-registry",
            "tick": "janitor",
            "sweep": "janitor",
        }
        for component, pod in pods(rendered(values)).items():
            assert container_of(pod)["image"] == f"{prefix}/{programs[component]}:{image['tag']}"


def selectors(objects: list[Object]) -> list[dict[str, str]]:
    """Return the selectors of Services, budgets, policies, Deployments and spreads."""
    found = []
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            found.append(spec["selector"])
        elif each["kind"] in {"Deployment", "PodDisruptionBudget"}:
            found.append(spec["selector"]["matchLabels"])
        elif each["kind"] == "NetworkPolicy":
            found.append(spec["podSelector"]["matchLabels"])
        if each["kind"] == "Deployment":
            spreads = spec["template"]["spec"]["topologySpreadConstraints"]
            found += [spread["labelSelector"]["matchLabels"] for spread in spreads]
    return found


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@EVERY
class TestChartEnvironment:
    @EVERY_SERVICE
    def test_is_what_the_service_understands(
        self, values: str, component: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings_class, found = settings_of(SERVICES[component]), environment(values, component)
        assert set(found) <= names_of(settings_class)
        settings = load(settings_class, found, monkeypatch)
        for name, value in VALUES[values].get(component, {}).get("environment", {}).items():
            assert str(getattr(settings, name.lower())).removesuffix(".0") in {value, f"('{value}',)"}

    @pytest.mark.parametrize("job", JOB_SETTINGS)
    def test_is_what_the_job_understands(
        self, values: str, job: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = environment(values, job)
        assert set(found) <= names_of(JOB_SETTINGS[job])
        load(JOB_SETTINGS[job], found, monkeypatch)

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_names_nothing_twice(self, values: str, component: str) -> None:
        names = [each["name"] for each in container_of(pods(rendered(values))[component])["env"]]
        assert len(set(names)) == len(names)

    def test_signs_in_on_the_bus_as_the_user_that_has_the_acls(self, values: str) -> None:
        users = {access.user for access in ACCESS} | {"admin"}
        for component in ("cutter", "registry", "janitor", "topics", "tick"):
            user = environment(values, component)["KAFKA_SASL_USERNAME"]
            assert user == USER_OF_THE_BUS.get(component, SERVICES.get(component))
            assert user in users

    def test_leads_to_the_registry(self, values: str) -> None:
        objects = rendered(values)
        (port,) = of_kind(objects, "Service")["clips-registry"]["spec"]["ports"]
        for component in ("gateway", "janitor", "sweep"):
            assert environment(values, component)["REGISTRY_URL"] == f"http://clips-registry:{port['port']}"


@pytest.mark.parametrize("component", [*HOOKS, *CRONS])
@EVERY
def test_commands_exist(
    values: str, component: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    container = container_of(pods(rendered(values))[component])
    # The entrypoint of an image is the console script of its name.
    (script,) = container.get("command") or [container["image"].rpartition("/")[2].partition(":")[0]]
    (entry_point,) = entry_points(group="console_scripts", name=script)
    # Click refuses an unknown option before it handles --help.
    monkeypatch.setattr("sys.argv", [script, *container["args"], "--help"])
    with pytest.raises(SystemExit) as stopped:
        entry_point.load()()
    assert not stopped.value.code
    assert f"Usage: {script} {container['args'][0]}" in " ".join(capsys.readouterr().out.split())


def test_jobs_do_what_those_of_compose_do() -> None:
    found, ours = services(), pods(rendered())
    for job in HOOKS:
        container = container_of(ours[job])
        program = container.get("command") or [container["image"].rpartition("/")[2].partition(":")[0]]
        theirs = command_of(found[job])
        assert [
            word for word in program + container["args"] if word not in {"--replication-factor", "3"}
        ] == theirs


class TestChartSecrets:
    def test_are_those_that_the_values_describe(self) -> None:
        header = (CHART / "values.yaml").read_text().partition("\nimage:")[0]
        described = {
            (f"clips-{component}", key)
            for component, keys in re.findall(r"^# +RELEASE-([a-z]+) +(.*)$", header, flags=re.MULTILINE)
            for key in re.findall(r"[A-Z]+_[A-Z_]+", re.sub(r"\(.*?\)| of .*", "", keys))
        }
        used = {each for pod in pods(rendered()).values() for each in secrets_named(pod)}
        assert used == described

    @EVERY
    def test_nobody_has_those_of_others(self, values: str) -> None:
        owners: dict[str, set[str]] = {}
        for component, pod in pods(rendered(values)).items():
            for name, _ in secrets_named(pod):
                owners.setdefault(name, set()).add(
                    {"sweep": "janitor", "migrate": "registry"}.get(component, component)
                )
        assert all(len(each) == 1 for each in owners.values()), owners

    @EVERY
    def test_none_stands_in_a_value(self, values: str) -> None:
        for pod in pods(rendered(values)).values():
            plain = {each["name"] for each in container_of(pod)["env"] if "value" in each}
            assert not [
                name for name in plain if re.search("SECRET|PASSWORD|TOKEN|ACCESS_KEY|DATABASE_URL", name)
            ]
            assert not [
                each for each in container_of(pod)["env"] if re.search('_key"', each.get("value", ""))
            ]

    @pytest.mark.parametrize("component", ["cutter", "gateway", "janitor", "sweep"])
    def test_a_pod_with_an_identity_needs_no_keys(self, component: str) -> None:
        objects = rendered("minimal")
        keys = {key for _, key in secrets_named(pods(objects)[component])}
        assert not keys & {"FREE_STORAGE_ACCESS_KEY", "FREE_STORAGE_SECRET_KEY", "SOURCE_STORAGE_PROFILES"}
        account = of_kind(objects, "ServiceAccount")[pods(objects)[component]["spec"]["serviceAccountName"]]
        assert "eks.amazonaws.com/role-arn" in account["metadata"]["annotations"]

    def test_an_identity_is_for_those_alone_who_reach_the_storage(self) -> None:
        accounts = {
            component: pod["spec"]["serviceAccountName"]
            for component, pod in pods(rendered("minimal")).items()
        }
        assert accounts == {
            **{component: f"clips-{component}" for component in SERVICES},
            "sweep": "clips-janitor",
            **dict.fromkeys(("topics", "migrate", "tick"), "default"),
        }


@EVERY
class TestChartHardening:
    @pytest.mark.parametrize("component", COMPONENTS)
    def test_every_pod_may_do_little(self, values: str, component: str) -> None:
        pod = pods(rendered(values))[component]["spec"]
        container = container_of({"spec": pod})
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False  # NAME_PORT of a neighbour could be taken for a setting
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert "/tmp" in {each["mountPath"] for each in container["volumeMounts"]}  # noqa: S108 - in a container

    def test_nothing_with_its_secrets_stands_above_the_cutter(self, values: str) -> None:
        # ffmpeg, of the same user, could read the environment of a shell.
        assert not {"command", "args"} & set(container_of(pods(rendered(values))["cutter"]))

    @EVERY_SERVICE
    def test_a_stop_outlasts_the_grace_period(self, values: str, component: str) -> None:
        found = environment(values, component)
        delay = float(found.get("SHUTDOWN_DELAY_SECONDS", 5))
        longest = delay + 2 * float(found["SHUTDOWN_GRACE_SECONDS"])
        assert pods(rendered(values))[component]["spec"]["terminationGracePeriodSeconds"] > longest

    @EVERY_SERVICE
    def test_health_is_asked_where_the_service_listens(self, values: str, component: str) -> None:
        container, found = container_of(pods(rendered(values))[component]), environment(values, component)
        ports = {each["name"]: str(each["containerPort"]) for each in container["ports"]}
        assert ports["operations"] == found["OPERATIONS_PORT"]
        assert ports.get("http") == found.get("HTTP_PORT")
        paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
        assert {each["port"] for each in paths.values()} == {"operations"}
        assert paths["startup"]["path"] == "/healthz/ready"
        assert paths["readiness"]["path"].partition("?")[0] == "/healthz/ready"
        assert paths["liveness"]["path"] == "/healthz/live"

    @EVERY_SERVICE
    def test_one_pod_at_a_time_may_be_taken_away(self, values: str, component: str) -> None:
        budget = of_kind(rendered(values), "PodDisruptionBudget")[f"clips-{component}"]["spec"]
        assert budget["maxUnavailable"] == 1
        assert "minAvailable" not in budget


class TestReadiness:
    """An outage of a shared system removes no replica from its Service."""

    async def test_the_registry_answers_while_the_bus_is_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = load(RegistrySettings, environment("minimal", "registry"), monkeypatch)
        assert isinstance(settings, RegistrySettings)
        with_all, without = await self.checks("registry", build_registry(settings))
        assert with_all - without == {"kafka"}
        assert "database" in without

    async def test_the_gateway_answers_while_the_registry_is_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        settings = load(GatewaySettings, environment("minimal", "gateway"), monkeypatch)
        assert isinstance(settings, GatewaySettings)
        with_all, without = await self.checks("gateway", build_gateway(settings))
        assert with_all - without == {"registry"}

    @staticmethod
    async def checks(component: str, app: FastAPI) -> tuple[set[str], set[str]]:
        """Return the names of the checks of the startup probe and the readiness probe."""
        container = container_of(pods(rendered("minimal"))[component])
        paths = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness")]
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://operations"
        ) as client:
            first, then = [set((await client.get(path)).json()["checks"]) for path in paths]
        return first, then


class TestChartScratch:
    @pytest.mark.parametrize("values", [*VALUES, "memory"])
    def test_is_large_enough_for_two_jobs_and_the_indexes(self, values: str) -> None:
        given = {"cutter": {"scratch": {"medium": "memory"}}} if values == "memory" else VALUES[values]
        objects = rendered(given)
        pod, found = pods(objects)["cutter"], environment(given, "cutter")
        (mount,) = (each for each in container_of(pod)["volumeMounts"] if each["name"] == "scratch")
        (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == "scratch")
        assert found["SCRATCH_DIR"].startswith(mount["mountPath"])
        # The kubelet ends a pod that uses more of the node's disk than this; a cutter sees the whole disk.
        needed = 4 * int(found["MAX_CLIP_MEBIBYTES"]) + int(found["INDEX_CACHE_MEBIBYTES"])
        assert self.size_of(volume) == f"{needed}Mi"
        assert (volume.get("emptyDir", {}).get("medium") == "Memory") == (values == "memory")

    @staticmethod
    def size_of(volume: Object) -> str:
        if "ephemeral" in volume:
            spec = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
            assert spec["storageClassName"] == "fast-local"
            return str(spec["resources"]["requests"]["storage"])
        return str(volume["emptyDir"]["sizeLimit"])

    def test_is_asked_of_the_node_where_it_lies_there(self) -> None:
        def asked(values: Object | str) -> str | None:
            requests = container_of(pods(rendered(values))["cutter"])["resources"]["requests"]
            found: str | None = requests.get("ephemeral-storage")
            return found

        assert asked("default") == "3328Mi"
        assert asked("full") is None
        own = {"cutter": {"resources": {"requests": {"ephemeral-storage": "8Gi"}}}}
        assert asked(own) == "8Gi"


ANYWHERE = "203.0.113.7"
ALLOWED_INSIDE = {("gateway", "registry", 8080), ("janitor", "registry", 8080), ("sweep", "registry", 8080)}


class TestNetwork:
    @EVERY
    def test_nothing_else_is_reached_inside(self, values: str) -> None:
        policies = of_kind(rendered(values), "NetworkPolicy")
        found = {
            (source, target, port)
            for source in COMPONENTS
            for target in COMPONENTS
            for port in (8080, 8081)
            if leaves(policies, source, port, pod=target) and enters(policies, target, port, pod=source)
        }
        assert found == ALLOWED_INSIDE

    @EVERY
    def test_only_the_registry_reaches_the_database(self, values: str) -> None:
        policies = of_kind(rendered(values), "NetworkPolicy")
        address = "10.20.0.5"
        assert {each for each in COMPONENTS if leaves(policies, each, 5432, address=address)} == {
            "registry",
            "migrate",
        }

    @EVERY
    def test_only_the_gateway_is_public(self, values: str) -> None:
        policies = of_kind(rendered(values), "NetworkPolicy")
        reached = {
            (component, port)
            for component in COMPONENTS
            for port in (8080, 8081)
            if enters(policies, component, port, namespace="ingress")
        }
        assert reached == {("gateway", 8080)}
        assert enters(policies, "gateway", 8080, namespace="elsewhere") == (values != "full")

    @EVERY
    def test_prometheus_reads_every_service(self, values: str) -> None:
        policies = of_kind(rendered(values), "NetworkPolicy")
        reached = {each for each in COMPONENTS if enters(policies, each, 8081, namespace="monitoring")}
        assert reached == set(SERVICES)

    def test_what_is_outside_is_reached_at_the_ports_of_its_addresses(self) -> None:
        policies = of_kind(rendered("minimal"), "NetworkPolicy")
        users = {"cutter", "registry", "janitor", "topics", "tick"}
        assert {each for each in COMPONENTS if leaves(policies, each, 9094, address=ANYWHERE)} == users
        # S3, the keys of sign-in, and the services that give credentials to an identity.
        tls = {each for each in COMPONENTS if leaves(policies, each, 443, address=ANYWHERE)}
        assert tls == {"cutter", "gateway", "janitor", "sweep"}
        agent = {each for each in COMPONENTS if leaves(policies, each, 80, address="169.254.170.23")}
        assert agent == tls
        # No pod may reach the node's own credentials: the cutter reads untrusted VODs.
        assert not [each for each in COMPONENTS if leaves(policies, each, 80, address="169.254.169.254")]

    def test_addresses_of_its_own_are_told_apart(self) -> None:
        policies = of_kind(rendered("full"), "NetworkPolicy")
        for component in ("cutter", "janitor", "sweep"):
            assert leaves(policies, component, 8333, namespace="storage")
            assert not leaves(policies, component, 8333, address=ANYWHERE)
            assert not leaves(policies, component, 443, address=ANYWHERE)
        for port in (9093, 9094):
            assert leaves(policies, "tick", port, namespace="bus")
            assert not leaves(policies, "tick", port, namespace="storage")
        assert leaves(policies, "gateway", 8443, address="10.30.0.9")
        assert not leaves(policies, "gateway", 8443, address=ANYWHERE)
        assert {each for each in COMPONENTS if leaves(policies, each, 4318, namespace="tracing")} == set(
            SERVICES
        )

    @EVERY
    def test_everybody_asks_for_names(self, values: str) -> None:
        policies = of_kind(rendered(values), "NetworkPolicy")
        assert all(leaves(policies, each, 53, address=ANYWHERE) for each in COMPONENTS)

    def test_policies_of_a_hook_are_there_before_its_job_and_gone_after(self) -> None:
        for job in HOOKS:
            both = [each for each in rendered() if each["metadata"]["name"] == f"clips-{job}"]
            kinds = sorted(both, key=lambda each: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]))
            assert [each["kind"] for each in kinds] == ["NetworkPolicy", "Job"]
            assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in both} == {
                "pre-install,pre-upgrade"
            }
            assert all(
                "hook-succeeded" in each["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
                for each in both
            )

    def test_they_can_be_left_out(self) -> None:
        assert of_kind(rendered({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == {}


def leaves(policies: dict[str, Object], source: str, port: int, **to: str) -> bool:
    """Return whether a component's pods may connect to a port of a pod, a namespace, or an address."""
    rules = policies[f"clips-{source}"]["spec"]["egress"]
    return any(has_port(rule, port) and has_peer(rule.get("to"), **to) for rule in rules)


def enters(policies: dict[str, Object], target: str, port: int, **who: str) -> bool:
    """Return whether a pod of the release, or of a namespace, may connect to a port of a component's pods."""
    spec = policies[f"clips-{target}"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    return any(has_port(rule, port) and has_peer(rule.get("from"), **who) for rule in spec["ingress"] or [])


def has_port(rule: Object, port: int) -> bool:
    return any(each["port"] == port for each in rule["ports"])


def has_peer(peers: list[Object] | None, *, pod: str = "", namespace: str = "", address: str = "") -> bool:
    """Whether the peers of a policy include a pod of the release, pods of a namespace, or an address."""
    return peers is None or any(
        is_peer(each, pod=pod, namespace=namespace, address=address) for each in peers
    )


def is_peer(peer: Object, *, pod: str, namespace: str, address: str) -> bool:
    if "ipBlock" in peer:
        return bool(address) and ip_address(address) in ip_network(peer["ipBlock"]["cidr"])
    if "namespaceSelector" in peer:
        labels = peer["namespaceSelector"]["matchLabels"]
        return bool(labels == {"kubernetes.io/metadata.name": namespace})
    labels = {"app.kubernetes.io/instance": "clips", "app.kubernetes.io/component": pod}
    return bool(pod) and selects(peer["podSelector"]["matchLabels"], labels)


class TestAccess:
    @EVERY
    def test_only_apis_and_metrics_have_a_service(self, values: str) -> None:
        found = of_kind(rendered(values), "Service")
        assert set(found) == {
            "clips-registry",
            "clips-gateway",
            *(f"clips-{each}-metrics" for each in SERVICES),
        }
        for name, each in found.items():
            (port,) = each["spec"]["ports"]
            assert port["targetPort"] == ("operations" if name.endswith("-metrics") else "http")
        assert "type" not in found["clips-registry"]["spec"]

    def test_the_ingress_leads_to_the_gateway(self) -> None:
        (ingress,) = of_kind(rendered("full"), "Ingress").values()
        (rule,) = ingress["spec"]["rules"]
        assert rule["host"] == "clips.example.com"
        (path,) = rule["http"]["paths"]
        assert path["backend"] == {"service": {"name": "clips-gateway", "port": {"name": "http"}}}
        assert ingress["spec"]["tls"] == [{"hosts": ["clips.example.com"], "secretName": "clips-example-com"}]

    def test_the_notes_say_how_the_gateway_is_reached(self) -> None:
        assert "port-forward service/clips-gateway 8080:80" in notes()
        assert "https://clips.example.com" in notes("minimal")


class TestAutoscaling:
    def test_looks_at_the_lag_of_what_cutters_read(self) -> None:
        (scaled,) = of_kind(rendered("full"), "ScaledObject").values()
        triggers = [each["metadata"] for each in scaled["spec"]["triggers"]]
        (cutter,) = (access for access in ACCESS if access.user == "clip-cutter")
        assert [each["topic"] for each in triggers] == list(cutter.reads)
        assert [each["consumerGroup"] for each in triggers] == [
            f"clip-cutter.{topic}" for topic in cutter.reads
        ]
        assert {each["bootstrapServers"] for each in triggers} == {"kafka.bus.svc:9093"}
        assert {(each["sasl"], each["tls"]) for each in triggers} == {("scram_sha256", "enable")}

    def test_takes_the_number_of_replicas_away_from_the_deployment(self) -> None:
        assert "replicas" not in of_kind(rendered("full"), "Deployment")["clips-cutter"]["spec"]
        assert of_kind(rendered(), "Deployment")["clips-cutter"]["spec"]["replicas"] == 2

    def test_stops_at_the_number_of_partitions(self) -> None:
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        partitions = {
            topic.partitions
            for topic in TOPICS
            if topic.name in {"highlight-detected", "highlight-encodings"}
        }
        assert values["cutter"]["autoscaling"]["maxReplicas"] == min(partitions)

    def test_signs_in_as_the_cutter(self) -> None:
        objects = rendered("full")
        (authentication,) = of_kind(objects, "TriggerAuthentication").values()
        container = container_of(pods(objects)["cutter"])
        for each in authentication["spec"]["env"]:
            assert each["containerName"] == container["name"]
            assert each["name"] in {variable["name"] for variable in container["env"]}
        assert [each["parameter"] for each in authentication["spec"]["env"]] == ["username", "password"]

    def test_signs_in_nowhere_on_a_bus_that_asks_for_nothing(self) -> None:
        values = {"kafka": {"securityProtocol": "PLAINTEXT"}, "cutter": {"autoscaling": {"enabled": True}}}
        objects = rendered(values)
        (scaled,) = of_kind(objects, "ScaledObject").values()
        assert of_kind(objects, "TriggerAuthentication") == {}
        assert all("authenticationRef" not in each for each in scaled["spec"]["triggers"])
        assert {each["metadata"]["tls"] for each in scaled["spec"]["triggers"]} == {"disable"}


class TestMonitoring:
    def test_prometheus_finds_every_service_by_its_name(self) -> None:
        objects = rendered("full")
        (monitor,) = of_kind(objects, "ServiceMonitor").values()
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [
            each
            for each in of_kind(objects, "Service").values()
            if selects(selector, each["metadata"]["labels"])
        ]
        jobs = {each["metadata"]["labels"][monitor["spec"]["jobLabel"]] for each in found}
        assert jobs == set(OWN)
        assert len(found) == len(OWN)
        (endpoint,) = monitor["spec"]["endpoints"]
        assert all(endpoint["port"] == port["name"] for each in found for port in each["spec"]["ports"])

    def test_the_rules_are_those_of_prometheus(self) -> None:
        (rule,) = of_kind(rendered("full"), "PrometheusRule").values()
        files = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
        groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
        assert groups
        assert rule["spec"]["groups"] == groups

    def test_the_dashboards_are_those_of_grafana(self) -> None:
        found: dict[str, Object] = {}
        for each in of_kind(rendered("full"), "ConfigMap").values():
            assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
            assert len(json.dumps(each)) < 1_000_000  # etcd's limit is a little more
            found |= {name: json.loads(text) for name, text in each["data"].items()}
        files = {
            file.name: json.loads(file.read_text()) for file in (ROOT / "deploy" / "grafana").glob("*.json")
        }
        assert files
        assert found == files
