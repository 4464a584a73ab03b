"""s3proxy, a second real S3 server: it checks signatures, and knows less of S3 than SeaweedFS does.

Its jars are fetched once from Maven Central, held to the checksums in ``s3proxy.sha256``, and kept in the
Python environment. They are those of its dependencies that it loads when its objects are in memory.
"""

from pathlib import Path

from local_stack.processes.ports import LOOPBACK, lacks_listener
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
from local_stack.servers.kafka_jars import bring_jars, find_java

_CHECKSUMS = Path(__file__).with_name("s3proxy.sha256")
_JVM = ("-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class S3Proxy(Process):
    """An S3 server on a loopback port, without buckets; what it stores is gone when it stops."""

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
            lacks=lambda: lacks_listener(port),
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
