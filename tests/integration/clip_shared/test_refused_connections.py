"""Refusals are told from outages, whether of keys, tokens or certificates, by every client that we use."""

import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from clip_gateway.jwks import Jwks
from clip_shared.bus.bus import Bus
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.registry_client import CallPolicy, RegistryCall, RegistryClient
from clip_shared.contracts.registry_metrics import RegistryCallMetrics
from clip_shared.errors import TransientError
from clip_shared.refused_connections import Cause, OnRefused, RefusedConnections, System, certificate_cause
from clip_shared.storage import s3_client
from local_stack.servers.servers import Addresses

Ask = Callable[[int, OnRefused], Awaitable[Any]]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a TLS server whose certificate nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path_factory.mktemp("stranger")))
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # each handshake fails
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _certificate(folder: Path) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + made.public_bytes(pem))
    return path


async def ask_storage(port: int, on_refused: OnRefused) -> None:
    s3_client(
        endpoint=f"https://localhost:{port}",
        region="us-east-1",
        access_key="a",
        secret_key="b",
        max_attempts=1,
        on_refused=on_refused,
    ).list_buckets()


async def ask_registry(port: int, on_refused: OnRefused) -> None:
    metrics = RegistryCallMetrics(CollectorRegistry(), RegistryCall, on_refused)
    async with RegistryClient(f"https://localhost:{port}", "a token", metrics) as client:
        await client.ask(
            RegistryCall.CLOSE_FEED, "DELETE", "/v1/accounts/ann/feed", CallPolicy(answer_seconds=60)
        )


async def ask_for_keys(port: int, on_refused: OnRefused) -> None:
    async with httpx.AsyncClient() as http:
        url = f"https://localhost:{port}/keys"
        await Jwks(http, url, "RS256", on_refused=on_refused).key_for("key")


async def ask_kafka(port: int, on_refused: OnRefused) -> None:
    settings = KafkaSettings(kafka_bootstrap_servers=f"localhost:{port}", kafka_security_protocol="SSL")
    service = f"test-{uuid4().hex[:8]}"
    await Bus(settings, service=service, registry=CollectorRegistry(), on_refused=on_refused).start()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time for a handshake."""
    for name in ("CONNECT_SECONDS", "TCP_CONNECT_SECONDS"):
        monkeypatch.setattr(f"clip_shared.contracts.registry_client.{name}", 60.0)
    monkeypatch.setattr("clip_gateway.jwks.FETCH_TIMEOUT_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("ask", [ask_storage, ask_registry, ask_for_keys, ask_kafka])
async def test_a_certificate_that_nobody_vouches_for_is_counted(stranger: int, ask: Ask) -> None:
    causes: list[Cause] = []
    with pytest.raises(Exception, match=r".+"):
        await ask(stranger, causes.append)
    assert set(causes) == {Cause.CERTIFICATE}


@pytest.mark.parametrize("ask", [ask_storage, ask_registry, ask_for_keys, ask_kafka])
async def test_a_server_that_is_away_is_no_refusal(ask: Ask) -> None:
    causes: list[Cause] = []
    with pytest.raises(Exception, match=r".+"):
        await ask(1, causes.append)
    assert causes == []


def test_storage_counts_keys_that_are_not_good(addresses: Addresses) -> None:
    causes: list[Cause] = []

    def client(access_key: str, secret_key: str) -> Any:
        return s3_client(
            endpoint=addresses.s3_endpoint_url,
            region=addresses.s3_region,
            access_key=access_key,
            secret_key=secret_key,
            max_attempts=1,
            on_refused=causes.append,
        )

    good = client(addresses.s3_access_key, addresses.s3_secret_key)
    good.list_buckets()
    with pytest.raises(good.exceptions.ClientError):
        good.get_object(Bucket="no-such-bucket", Key="key")
    assert causes == []
    for keys in (("nobody", "secret"), (addresses.s3_access_key, "another secret")):
        with pytest.raises(good.exceptions.ClientError):
            client(*keys).list_objects_v2(Bucket="clips")
        assert causes == [Cause.CREDENTIALS]
        causes.clear()


async def test_a_token_that_the_registry_does_not_know_is_counted() -> None:
    registry = CollectorRegistry()
    refused_connections = RefusedConnections(registry, [System.REGISTRY])
    calls = RegistryCallMetrics(registry, ["clip"], refused_connections.of(System.REGISTRY))
    for status in (200, 404, 401, 503):
        with calls.attempt("clip") as answered:
            answered.status = status
    with pytest.raises(TransientError), calls.attempt("clip"):
        raise TransientError("nobody answers")
    counts = {
        outcome: registry.get_sample_value(
            "clips_registry_call_seconds_count", {"call": "clip", "outcome": outcome}
        )
        for outcome in ("answered", "refused", "failed")
    }
    assert counts == {"answered": 1, "refused": 2, "failed": 2}
    refused = {"system": "registry", "reason": "credentials"}
    assert registry.get_sample_value("clips_connection_refused_total", refused) == 1
    assert (
        registry.get_sample_value("clips_connection_refused_total", refused | {"reason": "certificate"}) == 0
    )


def test_an_alert_about_our_own_certificate_is_a_refusal() -> None:
    alert = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    outage = TransientError("out")
    outage.__cause__ = alert
    assert certificate_cause(outage) is Cause.CERTIFICATE
    broken = ssl.SSLError(1, "wrong version number")
    broken.reason = "WRONG_VERSION_NUMBER"
    assert certificate_cause(broken) is None
