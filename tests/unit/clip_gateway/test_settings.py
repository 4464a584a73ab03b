"""What the environment may say."""

import pytest
from pydantic import ValidationError

from clip_gateway.settings import Settings

REQUIRED = {
    "FREE_STORAGE_BUCKET": "clips",
    "REGISTRY_URL": "http://registry:8080",
    "REGISTRY_TOKEN": "0123456789abcdef",
    "JWT_JWKS_URL": "https://sign-in.example/keys",
    "JWT_ISSUER": "https://sign-in.example",
    "JWT_AUDIENCE": "clips",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JWT_ALGORITHM", "JWT_SECRET", "FREE_STORAGE_PUBLIC_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_what_is_required_is_enough() -> None:
    settings = Settings()
    assert settings.jwt_algorithm == "RS256"


def test_a_proxy_that_takes_a_prefix_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_STORAGE_PUBLIC_ENDPOINT", "https://clips.example/media")
    with pytest.raises(ValidationError, match="must have the path of FREE_STORAGE_ENDPOINT"):
        Settings()


def test_an_s3_server_may_have_a_path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_STORAGE_ENDPOINT", "http://storage/v1/s3")
    monkeypatch.setenv("FREE_STORAGE_PUBLIC_ENDPOINT", "https://clips.example/v1/s3/")
    assert str(Settings().free_storage_public_endpoint) == "https://clips.example/v1/s3/"


@pytest.mark.parametrize("name", REQUIRED)
def test_each_is_needed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name if name == "JWT_JWKS_URL" else name.lower()):
        Settings()


@pytest.mark.parametrize("secret", ["", "x" * 31, "ü" * 15])
def test_a_short_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("JWT_ALGORITHM", "HS256")
    monkeypatch.setenv("JWT_SECRET", secret)
    with pytest.raises(ValidationError, match="JWT_SECRET") as refused:
        Settings()
    assert not secret or secret not in str(refused.value.errors(include_input=False))


@pytest.mark.parametrize("secret", ["x" * 32, "ü" * 16])
def test_a_long_secret_is_enough_for_hs256(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.delenv("JWT_JWKS_URL")
    monkeypatch.setenv("JWT_ALGORITHM", "HS256")
    monkeypatch.setenv("JWT_SECRET", secret)
    assert Settings().jwt_algorithm == "HS256"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_ALGORITHM", "none"),
        ("PRESIGNED_URL_SECONDS", "0"),
        ("PRESIGNED_URL_SECONDS", "604801"),
        ("SESSION_COOKIE_NAME", "a b"),
        ("REGISTRY_URL", "registry"),
    ],
)
def test_values_that_cannot_work(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
