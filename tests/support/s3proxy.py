"""s3proxy, a second real S3 server: it checks signatures, and has fewer features of S3 than SeaweedFS.

Its jars are downloaded once from Maven Central, checked against ``s3proxy.sha256``, and kept in the Python
environment. Only the dependencies that it needs to store objects in memory are listed.
"""

from pathlib import Path

from local_stack.processes.ports import LOOPBACK, listener_error
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
from local_stack.servers.kafka_jars import bring_jars, find_java

_CHECKSUMS = Path(__file__).with_name("s3proxy.sha256")
_JVM = ("-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class S3Proxy(Process):
    """An S3 server on a loopback port, without buckets. It keeps its objects in memory until it stops."""

    def __init__(self, workspace: Workspace) -> None:
        port = workspace.ports.claim("s3proxy")
        self.endpoint_url = f"http://{LOOPBACK}:{port}"
        self.access_key = workspace.secret("s3proxy-access-key")
        self.secret_key = workspace.secret("s3proxy-secret-key")
        self._properties = workspace.state.folder / "s3proxy.properties"
        super().__init__(
            "s3proxy",
            [
                *(find_java(), *_JVM, f"-Djava.io.tmpdir={workspace.state.tmp}"),
                *("-cp", ":".join(map(str, bring_jars(checksums=_CHECKSUMS, name="s3proxy")))),
                *("org.gaul.s3proxy.Main", "--properties", self._properties),
            ],
            log=workspace.state.log("s3proxy"),
            environment=workspace.state.environment(),
            readiness_error=lambda: listener_error(port),
        )

    def prepare(self) -> None:
        """Write the configuration."""
        settings = {
            "s3proxy.endpoint": self.endpoint_url,
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": self.access_key,
            "s3proxy.credential": self.secret_key,
            "jclouds.provider": "transient-nio2",
            "jclouds.identity": "unused",
            "jclouds.credential": "unused",
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
