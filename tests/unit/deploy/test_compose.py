"""docker-compose.yml: valid, pinned, without secrets, and accepted by the programs that it starts."""

import re
from importlib.metadata import entry_points
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from tests.support.deployment import (
    COMPOSE,
    ENVIRONMENT,
    JOBS,
    OWN,
    ROOT,
    SECRETS,
    MissingVariable,
    command_of,
    compose,
    environment_of,
    names_of,
    references,
    services,
    settings_of,
    stages,
)

from clip_shared.contracts.access import ACCESS

SECONDS = {"s": 1, "m": 60}
CONTAINERS = services()
LASTING = sorted(set(CONTAINERS) - set(JOBS))
OWN_CONTAINERS = [name for name, service in CONTAINERS.items() if "build" in service]
FOREIGN = sorted(set(CONTAINERS) - set(OWN_CONTAINERS))
HELD = {
    "clip-cutter": {"KAFKA_CUTTER_PASSWORD", "FREE_STORAGE_CUTTER_SECRET_KEY", "SOURCE_STORAGE_SECRET_KEY"},
    "clip-registry": {
        "KAFKA_REGISTRY_PASSWORD",
        "REGISTRY_GATEWAY_TOKEN",
        "REGISTRY_JANITOR_TOKEN",
        "POSTGRES_PASSWORD",
    },
    "clip-gateway": {"FREE_STORAGE_GATEWAY_SECRET_KEY", "REGISTRY_GATEWAY_TOKEN", "JWT_SECRET"},
    "janitor": {"KAFKA_JANITOR_PASSWORD", "FREE_STORAGE_JANITOR_SECRET_KEY", "REGISTRY_JANITOR_TOKEN"},
    "scheduler": {"KAFKA_SCHEDULER_PASSWORD"},
    "topics": {"KAFKA_ADMIN_PASSWORD"},
    "migrate": {"POSTGRES_PASSWORD"},
    "buckets": {"FREE_STORAGE_ADMIN_SECRET_KEY"},
}
MEBIBYTES = {"m": 1, "g": 1024}
# Three times the limits of streaming platforms.
RICH_BITS_PER_SECOND = 30_000_000


def test_follows_the_compose_specification() -> None:
    # The schema of the specification comes with check-jsonschema.
    arguments = ["--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    result = CliRunner().invoke(check_jsonschema, arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", FOREIGN)
def test_images_are_pinned(name: str) -> None:
    image = CONTAINERS[name]["image"]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image)
    assert "minio" not in image


def test_images_of_our_own_are_what_their_name_says() -> None:
    for name in OWN_CONTAINERS:
        service = CONTAINERS[name]
        assert service["image"] == f"clips/{service['build']['args']['SERVICE']}:dev"
    assert {CONTAINERS[name]["build"]["args"]["SERVICE"] for name in OWN} == set(OWN)


class TestSecrets:
    @pytest.mark.parametrize("name", sorted(SECRETS))
    def test_nothing_starts_without(self, name: str) -> None:
        environment = {key: value for key, value in ENVIRONMENT.items() if key != name}
        with pytest.raises(MissingVariable, match=name):
            compose(environment)

    def test_none_has_a_default(self) -> None:
        operators = references()
        for name in SECRETS:
            assert operators[name] & {"?", ":?"}
            assert not operators[name] & {":-", "-"}

    def test_none_stands_in_the_file(self) -> None:
        text = COMPOSE.read_text()
        # A name of a secret, or a password in a URL, that is not followed by a reference.
        assert not re.findall(r'(?im)^ *"?\w*(?:secret|password|token)\w*"?: *"?[^$\s"].*$', text)
        assert not re.findall(r'(?:password|user_[\w-]+)="[^$].*$', text)
        assert not re.findall(r"(?m)^.*://[^/@\s:]+:[^$@/\s]+@.*$", text)

    @pytest.mark.parametrize("name", OWN_CONTAINERS)
    def test_nobody_has_those_of_others(self, name: str) -> None:
        environment = " ".join(environment_of(CONTAINERS[name]).values())
        assert {secret for secret in SECRETS if ENVIRONMENT[secret] in environment} == HELD[name]

    def test_none_stands_in_the_example(self) -> None:
        example = (ROOT / ".env.example").read_text()
        given = dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", example, flags=re.MULTILINE))
        assert {name: given[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
        assert set(given) == set(references()), "the example shows every variable of docker-compose.yml"


class TestEnvironment:
    @pytest.mark.parametrize("name", OWN)
    def test_is_what_the_service_understands(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        settings_class = settings_of(name)
        environment = environment_of(CONTAINERS[name])
        assert set(environment) <= names_of(settings_class)
        for variable in names_of(settings_class):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        settings_class()

    def test_reads_sources_from_another_server_when_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        elsewhere = {
            "SOURCE_STORAGE_PROFILE": "twitch-vods",
            "SOURCE_STORAGE_ENDPOINT": "https://s3.example.com",
            "SOURCE_STORAGE_BUCKET": "recordings",
            "SOURCE_STORAGE_ADDRESSING": "virtual",
            "SOURCE_STORAGE_ACCESS_KEY": "another-key",
            "SOURCE_STORAGE_SECRET_KEY": "another-secret",
        }
        found = services(ENVIRONMENT | elsewhere)["clip-cutter"]
        profiles = yaml.safe_load(environment_of(found)["SOURCE_STORAGE_PROFILES"])
        assert profiles == {
            "twitch-vods": {
                "endpoint": "https://s3.example.com",
                "region": "us-east-1",
                "addressing": "virtual",
                "access_key": "another-key",
                "secret_key": "another-secret",
                "buckets": ["recordings"],
            }
        }
        for variable, value in environment_of(found).items():
            monkeypatch.setenv(variable, value)
        settings_of("clip-cutter")()

    def test_users_of_the_bus_are_those_that_have_acls(self) -> None:
        users = environment_of(CONTAINERS["kafka"])["KAFKA_LISTENER_NAME_CLIENTS_PLAIN_SASL_JAAS_CONFIG"]
        assert set(re.findall(r" user_([\w-]+)=", users)) == {access.user for access in ACCESS} | {"admin"}


@pytest.mark.parametrize("name", [*JOBS, *OWN])
def test_commands_exist(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, *arguments = command_of(CONTAINERS[name])
    (entry_point,) = entry_points(group="console_scripts", name=script)
    words = [word for word in arguments if word in {"topics", "buckets", "create", "migrate", "serve"}]
    monkeypatch.setattr("sys.argv", [script, *words, "--help"])
    with pytest.raises(SystemExit) as stopped:
        entry_point.load()()
    assert not stopped.value.code
    assert " ".join(["Usage:", script, *words]) in " ".join(capsys.readouterr().out.split())


def seconds(duration: str) -> int:
    return int(duration[:-1]) * SECONDS[duration[-1]]


class TestHardening:
    @pytest.mark.parametrize("name", CONTAINERS)
    def test_every_container_may_do_little(self, name: str) -> None:
        service = CONTAINERS[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert "privileged" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
        assert "/tmp" in mounts(name)  # noqa: S108 - inside a container

    def test_nothing_with_its_secrets_stands_above_the_cutter(self) -> None:
        cutter = CONTAINERS["clip-cutter"]
        assert cutter["init"] is False  # ffmpeg could read the environment of an init, or of a shell
        assert not {"entrypoint", "command", "pid"} & set(cutter)
        assert stages()["clip-cutter"].only("ENTRYPOINT") == '["clip-cutter"]'

    @pytest.mark.parametrize("name", LASTING)
    def test_what_lasts_is_watched_and_started_again(self, name: str) -> None:
        service = CONTAINERS[name]
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]

    @pytest.mark.parametrize("name", JOBS)
    def test_jobs_run_once(self, name: str) -> None:
        assert CONTAINERS[name]["restart"] == "no"

    @pytest.mark.parametrize("name", OWN)
    def test_a_stop_outlasts_the_grace_period(self, name: str) -> None:
        service = CONTAINERS[name]
        environment = environment_of(service)
        grace = float(environment["SHUTDOWN_GRACE_SECONDS"])
        delay = float(environment.get("SHUTDOWN_DELAY_SECONDS", 0))
        # Twice: open requests can take the whole period before the bus begins to drain.
        assert seconds(service["stop_grace_period"]) >= delay + 2 * grace

    def test_health_is_asked_where_the_service_listens(self) -> None:
        for name in OWN:
            port = environment_of(CONTAINERS[name])["OPERATIONS_PORT"]
            assert f"http://127.0.0.1:{port}/healthz/ready" in CONTAINERS[name]["healthcheck"]["test"][-1]


def mounts(name: str) -> dict[str, dict[str, str]]:
    """Return the tmpfs mounts of a container: their places and options."""
    parts = (mount.partition(":") for mount in CONTAINERS[name]["tmpfs"])
    return {
        place: dict(each.split("=") for each in options.split(",") if "=" in each)
        for place, _, options in parts
    }


def mebibytes(size: str) -> int:
    return int(size[:-1]) * MEBIBYTES[size[-1].lower()]


class TestScratch:
    environment = environment_of(CONTAINERS["clip-cutter"])
    largest = int(environment["MAX_CLIP_MEBIBYTES"])
    size = mebibytes(mounts("clip-cutter")[environment["SCRATCH_DIR"]]["size"])

    def test_the_longest_clip_of_a_rich_vod_is_allowed(self) -> None:
        seconds = int(self.environment["MAX_CLIP_SECONDS"])
        assert seconds * RICH_BITS_PER_SECOND / 8 <= self.largest * 2**20

    def test_the_largest_clip_fits_twice_in_each_lane(self) -> None:
        assert 4 * self.largest <= self.size

    def test_it_leaves_memory_to_ffmpeg_and_python(self) -> None:
        memory = mebibytes(CONTAINERS["clip-cutter"]["deploy"]["resources"]["limits"]["memory"])
        assert self.size + 1536 <= memory


class TestOrder:
    def test_nothing_waits_for_what_cannot_come(self) -> None:
        for name, service in CONTAINERS.items():
            for other, terms in service.get("depends_on", {}).items():
                once = terms["condition"] == "service_completed_successfully"
                assert once == (other in JOBS), f"{name} waits for {other}"
                assert once or "healthcheck" in CONTAINERS[other]

    @pytest.mark.parametrize("name", ["clip-cutter", "clip-registry", "janitor", "scheduler"])
    def test_who_uses_the_bus_waits_for_its_topics(self, name: str) -> None:
        assert "topics" in CONTAINERS[name]["depends_on"]


class TestNetworks:
    def members(self, network: str) -> set[str]:
        return {name for name, service in CONTAINERS.items() if network in service["networks"]}

    def test_who_reaches_the_database(self) -> None:
        assert self.members("database") == {"postgres", "clip-registry", "migrate"}

    def test_who_reaches_the_bus(self) -> None:
        users = {"clip-cutter", "clip-registry", "janitor", "scheduler", "topics"}
        assert self.members("bus") == {"kafka", *users}

    def test_who_reaches_the_storage(self) -> None:
        assert self.members("storage") == {"seaweedfs", "clip-cutter", "janitor", "buckets"}

    def test_only_what_must_leads_outside(self) -> None:
        networks = compose()["networks"]
        assert {name for name, terms in networks.items() if not terms.get("internal")} == {"edge", "storage"}

    def test_what_the_host_publishes(self) -> None:
        published = {name: service["ports"] for name, service in CONTAINERS.items() if "ports" in service}
        assert published == {
            "clip-gateway": ["8080:8080"],
            "seaweedfs": ["127.0.0.1:8333:8333"],
            "prometheus": ["127.0.0.1:9090:9090"],
            "alertmanager": ["127.0.0.1:9093:9093"],
            "grafana": ["127.0.0.1:3000:3000"],
        }

    def test_only_s3_leaves_the_storage_server(self) -> None:
        command: list[str] = CONTAINERS["seaweedfs"]["command"]
        outward = [option for option in command if "0.0.0.0" in option]  # noqa: S104 - looked for, not bound
        assert outward == ["-s3.ip.bind=0.0.0.0"]
        assert "-ip.bind=127.0.0.1" in command


def test_prometheus_scrapes_every_service() -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (clips,) = (each for each in config["scrape_configs"] if each["job_name"] == "clips")
    (discovery,) = clips["dns_sd_configs"]
    assert set(discovery["names"]) == set(OWN)
    assert {environment_of(CONTAINERS[name])["OPERATIONS_PORT"] for name in OWN} == {str(discovery["port"])}
    reached = set(CONTAINERS["prometheus"]["networks"])
    assert all(reached & set(CONTAINERS[name]["networks"]) for name in OWN)
