"""Prometheus and Alertmanager beside a stack, with the rules and the route of production.

No wheel has them: the programs on PATH are used. Rules and route are those of deploy/.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from local_stack.processes.ports import LOOPBACK, http_error
from local_stack.processes.process import Process, start_together, stop_together
from local_stack.processes.workspace import Workspace

SCRAPE_SECONDS = 5
_DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
_RULES = _DEPLOY / "prometheus" / "rules"
_ROUTE = _DEPLOY / "alertmanager" / "alertmanager.yml"
# Debian's package names the program after itself.
_ALERTMANAGER = ("alertmanager", "prometheus-alertmanager")


class MonitoringUnavailable(Exception):
    """Prometheus or Alertmanager is not on PATH. The message has the command to install them."""


@dataclass(frozen=True)
class MonitoringPrograms:
    """The paths of Prometheus and Alertmanager."""

    prometheus: str
    alertmanager: str

    @classmethod
    def find(cls) -> Self:
        """Find both programs on PATH.

        Raises:
            MonitoringUnavailable: a program is not on PATH.
        """
        prometheus = shutil.which("prometheus")
        alertmanager = next(filter(None, map(shutil.which, _ALERTMANAGER)), None)
        if prometheus is None or alertmanager is None:
            missing = "Prometheus" if prometheus is None else "Alertmanager"
            raise MonitoringUnavailable(
                f"{missing} is not on PATH. On Debian and Ubuntu:\n"
                "  apt-get install --no-install-recommends prometheus prometheus-alertmanager\n"
                "Elsewhere, put the programs of https://prometheus.io/download/ on PATH."
            )
        return cls(prometheus, alertmanager)


class Monitoring:
    """Prometheus, which scrapes the services, and Alertmanager, which receives its alerts. A context manager.

    Args:
        workspace: of their data and ports.
        targets: the address of each service's metrics (``http://host:port``), by the service's name.
        scrape_seconds: seconds between two scrapes, and between two evaluations of the rules.

    Raises:
        MonitoringUnavailable: one of the programs is not on PATH.
    """

    def __init__(
        self, workspace: Workspace, targets: Mapping[str, str], *, scrape_seconds: float = SCRAPE_SECONDS
    ) -> None:
        programs = MonitoringPrograms.find()
        self.alertmanager = _Alertmanager(workspace, programs.alertmanager)
        self.prometheus = _Prometheus(
            workspace, programs.prometheus, _configuration(targets, self.alertmanager.address, scrape_seconds)
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return Prometheus and Alertmanager."""
        return self.alertmanager, self.prometheus

    @property
    def environment(self) -> dict[str, str]:
        """Return their addresses, as variables of stack.env."""
        return {"PROMETHEUS_URL": self.prometheus.url, "ALERTMANAGER_URL": self.alertmanager.url}

    def start(self) -> None:
        """Start both. When one cannot start, stop the other.

        Raises:
            ProcessFailed: a program ended, or was not ready in time.
        """
        start_together(self.processes)

    def stop(self) -> None:
        """Stop Prometheus and Alertmanager."""
        stop_together(self.processes)


class _MonitoringServer(Process):
    """A program that listens on a loopback port, with its readiness at /-/ready."""

    def __init__(self, workspace: Workspace, name: str, program: str, *options: str) -> None:
        self.address = f"{LOOPBACK}:{workspace.ports.claim(name)}"
        self.url = f"http://{self.address}"
        self.folder = workspace.state.folder / name
        super().__init__(
            name,
            [program, f"--web.listen-address={self.address}", "--log.level=warn", *options],
            log=workspace.state.log(name),
            environment=workspace.state.environment(),
            readiness_error=lambda: http_error(f"{self.url}/-/ready"),
        )

    def prepare(self) -> None:
        """Create the data folder."""
        self.folder.mkdir(exist_ok=True)


class _Alertmanager(_MonitoringServer):
    def __init__(self, workspace: Workspace, program: str) -> None:
        super().__init__(
            workspace,
            "alertmanager",
            program,
            f"--config.file={_ROUTE}",
            f"--storage.path={workspace.state.folder / 'alertmanager'}",
            # No cluster: without this option it listens for peers.
            "--cluster.listen-address=",
        )


class _Prometheus(_MonitoringServer):
    def __init__(self, workspace: Workspace, program: str, configuration: Mapping[str, Any]) -> None:
        folder = workspace.state.folder / "prometheus"
        self._configuration = configuration
        self._file = folder / "prometheus.yml"
        super().__init__(
            workspace,
            "prometheus",
            program,
            f"--config.file={self._file}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--enable-feature=exemplar-storage",
        )

    def prepare(self) -> None:
        """Write the configuration as JSON, which is YAML."""
        super().prepare()
        self._file.write_text(json.dumps(self._configuration, indent=2) + "\n")


def _configuration(targets: Mapping[str, str], alertmanager: str, scrape_seconds: float) -> dict[str, Any]:
    every = f"{round(scrape_seconds * 1000)}ms"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(_RULES / "*.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        # The job is the service's name, as in deploy/prometheus/prometheus.yml.
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
            for name, url in targets.items()
        ],
    }
