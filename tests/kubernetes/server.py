"""A real Kubernetes API server with etcd on loopback, built once and kept in the Python environment.

Without a kubelet, a scheduler and controllers, it checks, stores and returns objects, and runs no pods.
"""

import json
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_stack.processes.ports import LOOPBACK, http_error
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace

VERSION = "1.37.2"
SOURCE = Path(__file__).with_name("kube-apiserver")
BUILT = Path(sys.prefix) / "share" / "kube-apiserver" / VERSION / "kube-apiserver"
KUBECTL = Path(sys.executable).with_name("kubectl")
TOKEN = "for-tests-only"  # noqa: S105 - of a server that lives for one test run
BUILD_SECONDS = 3600


class CannotRun(Exception):
    """A program that the server needs is not on this machine. The message names it."""


def build() -> Path:
    """Return the path of the server's program, which the first call builds in about ten minutes.

    Raises:
        CannotRun: etcd is missing; or the program is not built yet, and Go is missing.
    """
    if shutil.which("etcd") is None:
        raise CannotRun("etcd is not on PATH (Debian: apt-get install etcd-server)")
    if not BUILT.exists():
        _build()
    return BUILT


def _build() -> None:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise CannotRun("Go 1.26 is not on PATH, and the Kubernetes API server has not been built yet")
    sys.stderr.write(
        f"\nBuilding the Kubernetes API server {VERSION} (about ten minutes, only the first time) …\n"
    )
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION}"
    partial = BUILT.with_suffix(".partial")
    subprocess.run(
        [go, "build", "-ldflags", flags, "-o", partial, "."], cwd=SOURCE, check=True, timeout=BUILD_SECONDS
    )
    partial.rename(BUILT)


@dataclass(frozen=True)
class Cluster:
    """A running API server: its address and its kubeconfig."""

    url: str
    kubeconfig: Path

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl, and return its output.

        Raises:
            ObjectRefused: kubectl failed.
        """
        done = subprocess.run(
            [KUBECTL, f"--kubeconfig={self.kubeconfig}", "--request-timeout=60s", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise ObjectRefused(done.stderr)
        return done.stdout

    def get(self, kinds: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects of some kinds."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "--output=json", *arguments))[
            "items"
        ]
        return items


class ObjectRefused(Exception):
    """The server refused an object. The message has the reason."""


@contextmanager
def running(program: Path) -> Iterator[Cluster]:
    """Start etcd and the API server on free ports; stop them in the end."""
    with Workspace() as workspace:
        names = ("etcd", "etcd-peers", "kube-apiserver")
        store, peers, api = (workspace.ports.claim(name) for name in names)
        folder = workspace.state.folder
        with _etcd(workspace, store, peers), _api_server(workspace, program, store, api):
            yield Cluster(f"https://{LOOPBACK}:{api}", _kubeconfig(folder, api))


def _etcd(workspace: Workspace, port: int, peers: int) -> Process:
    clients, others = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{peers}"
    return Process(
        "etcd",
        [
            str(shutil.which("etcd")),
            f"--data-dir={workspace.state.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={others}",
            f"--initial-advertise-peer-urls={others}",
            f"--initial-cluster=default={others}",
            # The data of the tests need not be durable.
            "--unsafe-no-fsync",
        ],
        log=workspace.state.log("etcd"),
        environment=workspace.state.environment(),
        readiness_error=lambda: http_error(f"{clients}/health"),
        start_seconds=120,
    )


def _api_server(workspace: Workspace, program: Path, store: int, port: int) -> Process:
    folder = workspace.state.folder
    key, public = folder / "accounts.key", folder / "accounts.pub"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True, timeout=60)
    subprocess.run(
        ["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True, timeout=60
    )
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    return Process(
        "the API server",
        [
            program,
            f"--etcd-servers=http://{LOOPBACK}:{store}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            # The server refuses to advertise a loopback address.
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--cert-dir={folder / 'certificates'}",
            "--service-account-issuer=https://clips.test",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            # It would wait for a controller that creates each namespace's service accounts.
            "--disable-admission-plugins=ServiceAccount",
        ],
        log=workspace.state.log("kube-apiserver"),
        environment=workspace.state.environment(),
        readiness_error=lambda: _readiness_error(port),
        start_seconds=240,
    )


def _readiness_error(port: int) -> str | None:
    request = urllib.request.Request(
        f"https://{LOOPBACK}:{port}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    # The server makes its own certificate at its start.
    context = ssl._create_unverified_context()  # noqa: S323
    try:
        with urllib.request.urlopen(request, timeout=10, context=context):  # noqa: S310 - loopback
            return None
    except (urllib.error.URLError, OSError) as error:
        return f"{request.full_url}: {error}"


def _kubeconfig(folder: Path, port: int) -> Path:
    cluster = {"server": f"https://{LOOPBACK}:{port}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
        "current-context": "tests",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path
