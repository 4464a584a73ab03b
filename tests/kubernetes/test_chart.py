"""The chart in a real API server: its objects are checked, installed, upgraded, rolled back and removed.

Only ``make test-helm`` runs these tests: the first run builds the server in ten minutes.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Config

from tests.kubernetes.server import BUILD_SECONDS, CannotRun, Cluster, ObjectRefused, build, running
from tests.support.chart import CHART, VALUES, Object, pods, rendered

pytestmark = [
    pytest.mark.skipif(not os.environ.get("TEST_HELM"), reason="make test-helm runs it"),
    pytest.mark.timeout(BUILD_SECONDS),
]

CRDS = Path(__file__).with_name("crds")
EVERY = pytest.mark.parametrize("values", VALUES)
KINDS = (
    "deployments,jobs,cronjobs,services,serviceaccounts,configmaps,ingresses,networkpolicies,poddisruptionbudgets,"
    "scaledobjects.keda.sh,triggerauthentications.keda.sh,"
    "servicemonitors.monitoring.coreos.com,prometheusrules.monitoring.coreos.com"
)
OURS = "--selector=app.kubernetes.io/part-of=clips"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """An API server with the resources of KEDA and the Prometheus Operator."""
    try:
        program = build()
    except CannotRun as error:
        pytest.skip(str(error))
    with running(program) as server:
        server.kubectl("apply", "--server-side", f"--filename={CRDS}")
        server.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        yield server


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A new namespace that enforces the pod security standard "restricted"."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    return name


def take(cluster: Cluster, namespace: str, objects: list[Object], *arguments: str) -> str:
    """Have the server check objects without storing them; it refuses unknown fields."""
    return cluster.kubectl(
        "create",
        "--dry-run=server",
        "--validate=strict",
        f"--namespace={namespace}",
        "--filename=-",
        *arguments,
        given=yaml.safe_dump_all(objects),
    )


@EVERY
def test_the_server_takes_every_object(values: str, cluster: Cluster, namespace: str) -> None:
    objects = rendered(values, namespace=namespace)
    assert len(take(cluster, namespace, objects, "--output=name").split()) == len(objects)


@EVERY
def test_a_restricted_namespace_takes_every_pod(values: str, cluster: Cluster, namespace: str) -> None:
    made = [as_pod(component, template) for component, template in pods(rendered(values)).items()]
    assert len(take(cluster, namespace, made, "--output=name").split()) == len(made)


def as_pod(component: str, template: Object) -> Object:
    """Return the pod that a controller would create from a template."""
    pod = json.loads(json.dumps(template))
    pod["metadata"]["name"] = component
    pod["spec"].pop("priorityClassName", None)  # not defined in this cluster
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def changed(component: str, change: Any) -> Object:
    pod = as_pod(component, pods(rendered())[component])
    change(pod["spec"])
    return pod


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda spec: spec["securityContext"].update(runAsUser=0), "runAsUser=0"),
        (lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"), "capabilities"),
        (lambda spec: spec["containers"][0].update(livenesProbe={}), "livenesProbe"),
        (lambda spec: spec["containers"][0]["resources"]["limits"].update(memory="100mm"), "quantity"),
    ],
)
def test_it_would_refuse_one_that_is_wrong(
    change: Any, message: str, cluster: Cluster, namespace: str
) -> None:
    with pytest.raises(ObjectRefused, match=message):
        take(cluster, namespace, [changed("cutter", change)])


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ScaledObject", lambda spec: spec.update(minReplicaCont=1), "minReplicaCont"),
        ("ServiceMonitor", lambda spec: spec["endpoints"][0].update(prt="operations"), "prt"),
        ("CronJob", lambda spec: spec.update(schedule="61 * * * *"), "schedule"),
        ("NetworkPolicy", lambda spec: spec.update(policyTypes=["Ingres"]), "policyTypes"),
        (
            "PodDisruptionBudget",
            lambda spec: spec.update(minAvailable=1),
            "mutually exclusive|cannot be both",
        ),
    ],
)
def test_it_would_refuse_what_schemas_let_pass(
    kind: str, change: Any, message: str, cluster: Cluster, namespace: str
) -> None:
    found = json.loads(json.dumps(next(each for each in rendered("full") if each["kind"] == kind)))
    change(found["spec"])
    with pytest.raises(ObjectRefused, match=message):
        take(cluster, namespace, [found])


def test_a_release_lives_and_goes(cluster: Cluster, namespace: str) -> None:
    values = {name: json.loads(json.dumps(each)) for name, each in VALUES.items()}
    with (
        Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace) as helm,
        job_controller(cluster, namespace) as jobs,
    ):
        helm.install(CHART, "clips", values["minimal"], namespace=namespace, timeout=300)
        check_live(cluster, namespace, "minimal")
        assert jobs == ["clips-topics", "clips-migrate"], "before anything else, in this order"

        helm.upgrade(CHART, "clips", values["full"], namespace=namespace, timeout=300)
        check_live(cluster, namespace, "full")
        assert jobs == ["clips-topics", "clips-migrate"] * 2

        helm.rollback("clips", timeout=300)
        check_live(cluster, namespace, "minimal")
        assert [each["revision"] for each in helm.history("clips")] == [1, 2, 3]

        helm.uninstall("clips", timeout=300)
        assert cluster.get(KINDS, f"--namespace={namespace}", OURS) == []


def check_live(cluster: Cluster, namespace: str, values: str) -> None:
    """Check that the namespace has all rendered objects with all their fields, and none of the hooks."""
    live = {
        (each["kind"], each["metadata"]["name"]): each
        for each in cluster.get(KINDS, f"--namespace={namespace}", OURS)
    }
    objects = rendered(values, namespace=namespace)
    wanted = {
        (each["kind"], each["metadata"]["name"]): each
        for each in objects
        if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    }
    assert set(live) == set(wanted)
    for key, each in wanted.items():
        assert lost(each, live[key]) == [], key


def lost(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Return the places of values that differ from the rendered ones."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [each for name in wanted for each in lost(wanted[name], found.get(name), f"{place}.{name}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [each for number, (one, other) in pairs for each in lost(one, other, f"{place}[{number}]")]
    is_there = wanted == found or (wanted in (None, {}, []) and found is None)
    return [] if is_there else [f"{place}: {wanted!r} became {found!r}"]


@contextmanager
def job_controller(cluster: Cluster, namespace: str) -> Iterator[list[str]]:
    """Mark each Job as complete, as a controller does after its pod; yield the names of the Jobs in order."""
    done: list[str] = []
    seen: set[str] = set()
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.1):
            with suppress(ObjectRefused):  # the Job was deleted in the meantime
                for job in cluster.get("jobs", f"--namespace={namespace}"):
                    if job["metadata"]["uid"] not in seen:
                        complete(cluster, namespace, job["metadata"]["name"])
                        seen.add(job["metadata"]["uid"])
                        done.append(job["metadata"]["name"])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def complete(cluster: Cluster, namespace: str, job: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": each, "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        for each in ("SuccessCriteriaMet", "Complete")
    ]
    status = {
        "startTime": now,
        "completionTime": now,
        "succeeded": 1,
        "conditions": conditions,
        "uncountedTerminatedPods": {},
    }
    patch = json.dumps({"status": status})
    cluster.kubectl(
        "patch",
        "job",
        job,
        f"--namespace={namespace}",
        "--subresource=status",
        "--type=merge",
        f"--patch={patch}",
    )
