"""Keys outside of the settings: boto3's own chain of credentials, on a real server."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clip_cutter.settings import SourceProfile
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared.contracts.events import SourceObject
from clip_shared.errors import PermanentError
from clip_shared.storage import FreeStorage, FreeStorageSettings, ensure_buckets
from local_stack.servers.servers import Addresses
from tests.integration.s3.conftest import EVERYBODY, Services, use


@pytest.fixture
def in_the_environment(monkeypatch: pytest.MonkeyPatch, addresses: Addresses) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", addresses.s3_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", addresses.s3_secret_key)


@pytest.fixture
def in_a_profile(monkeypatch: pytest.MonkeyPatch, addresses: Addresses, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        f"[clips]\naws_access_key_id = {addresses.s3_access_key}\n"
        f"aws_secret_access_key = {addresses.s3_secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "clips")


@pytest.fixture
def of_the_pods_identity(
    monkeypatch: pytest.MonkeyPatch, addresses: Addresses, tmp_path: Path
) -> Iterator[None]:
    """EKS Pod Identity of a pod: a token, and an agent that exchanges it for keys."""
    token = tmp_path / "token"
    token.write_text("the pod's token")
    keys = {
        "AccessKeyId": addresses.s3_access_key,
        "SecretAccessKey": addresses.s3_secret_key,
        "Token": "",  # the S3 server of the tests has permanent keys only
        "Expiration": "2099-01-01T00:00:00Z",
    }

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == token.read_text()
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps(keys if known else {}).encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as agent:
        threading.Thread(target=agent.serve_forever).start()
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{agent.server_port}/keys")
        yield
        agent.shutdown()


@pytest.fixture(params=["in_the_environment", "in_a_profile", "of_the_pods_identity"])
def chain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, addresses: Addresses) -> None:
    request.getfixturevalue(request.param)
    use(monkeypatch, endpoint=addresses.s3_endpoint_url)


@pytest.mark.usefixtures("chain")
async def test_the_services_work_without_keys_of_their_own(services: Services, addresses: Addresses) -> None:
    assert await ensure_buckets(FreeStorage(FreeStorageSettings()), []) == {"clips": False}
    assert await services.readiness() == {"cutter": "ready", "janitor": "ready"}
    assert f"X-Amz-Credential={addresses.s3_access_key}%2F" in services.url("clips/a")


@pytest.mark.usefixtures("chain")
async def test_so_does_a_source_profile(addresses: Addresses) -> None:
    profile = SourceProfile.model_validate({"endpoint": addresses.s3_endpoint_url, "buckets": ["vods"]})
    sources = SourceStorage({"archive": profile}, url_seconds=60, on_pulled=lambda _count: None)
    FreeStorage(FreeStorageSettings()).client().put_object(Bucket="vods", Key="chain.mp4", Body=b"a VOD")
    vod = await sources.locate(SourceObject(profile="archive", bucket="vods", key="chain.mp4"))
    assert vod.size_bytes == len(b"a VOD")


def test_without_an_endpoint_it_is_aws(monkeypatch: pytest.MonkeyPatch, in_the_environment: None) -> None:  # noqa: ARG001 - keys
    use(monkeypatch, region="eu-central-1")
    assert (
        FreeStorage(FreeStorageSettings()).client().meta.endpoint_url
        == "https://s3.eu-central-1.amazonaws.com"
    )


@pytest.mark.parametrize("half", [{}, {"AWS_ACCESS_KEY_ID": "key"}, {"AWS_PROFILE": "absent"}])
def test_no_credentials_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, half: dict[str, str]) -> None:
    use(monkeypatch)
    for name, value in half.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PermanentError, match="no S3 credentials"):
        FreeStorage(FreeStorageSettings()).client()


def test_a_service_without_credentials_does_not_start_and_says_why_in_a_line() -> None:
    environment = {
        **EVERYBODY,
        "FREE_STORAGE_BUCKET": "clips",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": "/",
    }
    done = subprocess.run(
        [sys.executable, "-m", "janitor", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "no S3 credentials" in done.stderr
    assert "Traceback" not in done.stderr
