"""The settings, and values that are refused."""

import pytest
from pydantic import ValidationError

from clip_gateway.settings import GatewaySettings

REQUIRED = {
    "PUBLIC_URL": "https://clips.example",
    "FREE_STORAGE_BUCKET": "clips",
    "REGISTRY_URL": "http://registry:8080",
    "REGISTRY_TOKEN": "0123456789abcdef",
    "JWT_JWKS_URL": "https://sign-in.example/keys",
    "JWT_ISSUER": "https://sign-in.example",
    "JWT_AUDIENCE": "clips",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_required_settings_are_enough() -> None:
    settings = GatewaySettings()
    assert settings.jwt_algorithm == "RS256"


def test_a_public_path_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_STORAGE_PUBLIC_ENDPOINT", "https://clips.example/media")
    with pytest.raises(ValidationError, match="must have the path of FREE_STORAGE_ENDPOINT"):
        GatewaySettings()


def test_an_s3_server_may_have_a_path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_STORAGE_ENDPOINT", "http://storage/v1/s3")
    monkeypatch.setenv("FREE_STORAGE_PUBLIC_ENDPOINT", "https://clips.example/v1/s3/")
    assert str(GatewaySettings().free_storage_public_endpoint) == "https://clips.example/v1/s3/"


@pytest.mark.parametrize("name", REQUIRED)
def test_every_required_setting_is_required(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name if name == "JWT_JWKS_URL" else name.lower()):
        GatewaySettings()


@pytest.mark.parametrize("secret", ["", "x" * 31, "ü" * 15])
def test_a_short_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("JWT_ALGORITHM", "HS256")
    monkeypatch.setenv("JWT_SECRET", secret)
    with pytest.raises(ValidationError, match="JWT_SECRET") as refused:
        GatewaySettings()
    assert not secret or secret not in str(refused.value.errors(include_input=False))


@pytest.mark.parametrize("secret", ["x" * 32, "ü" * 16])
def test_a_long_secret_is_enough_for_hs256(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.delenv("JWT_JWKS_URL")
    monkeypatch.setenv("JWT_ALGORITHM", "HS256")
    monkeypatch.setenv("JWT_SECRET", secret)
    assert GatewaySettings().jwt_algorithm == "HS256"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_ALGORITHM", "none"),
        ("PRESIGNED_URL_SECONDS", "0"),
        ("PRESIGNED_URL_SECONDS", "604801"),
        ("SESSION_COOKIE_NAME", "a b"),
        ("JWT_ALGORITHM", "HS512"),
        ("JWT_ALGORITHM", "RS256,HS256"),
        ("PUBLIC_URL", "clips.example"),
        ("PUBLIC_URL", "https://clips.example/clips"),
        ("PUBLIC_URL", "https://clips.example/?a=b"),
        ("PUBLIC_URL", "https://ann@clips.example"),
        ("LOGIN_URL", "//sign-in.example"),
        ("LOGIN_URL", "javascript:alert(1)"),
        ("LOGOUT_URL", "sign-out"),
        ("EMBED_ORIGINS", "https://friends.example/"),
        ("EMBED_ORIGINS", "https://*"),
        ("EMBED_ORIGINS", "https://a.example; script-src *"),
        ("EMBED_ORIGINS", "'none'"),
        ("TRUSTED_PROXIES", "proxy"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("PRESIGNS_PER_MINUTE", "0"),
        ("VISITS_PER_MINUTE", "-1"),
        ("ENVIRONMENT", "test"),
        ("REGISTRY_URL", "registry"),
    ],
)
def test_invalid_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        GatewaySettings()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_keys_of_other_services_come_from_a_key_set(monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    monkeypatch.setenv("JWT_ALGORITHM", algorithm)
    assert GatewaySettings().jwt_algorithm == algorithm
    monkeypatch.delenv("JWT_JWKS_URL")
    with pytest.raises(ValidationError, match=f"JWT_ALGORITHM={algorithm} needs JWT_JWKS_URL"):
        GatewaySettings()


@pytest.mark.parametrize(
    ("public_url", "chosen", "name"),
    [
        ("https://clips.example", "", "__Host-clips_session"),
        ("http://127.0.0.1:8080/", "", "clips_session"),
        ("https://clips.example:8443", "platform", "platform"),
        ("http://clips.example", "platform", "platform"),
        ("https://clips.example", "__Host-platform", "__Host-platform"),
    ],
)
def test_the_cookie_is_bound_to_the_host_where_tls_is_on(
    monkeypatch: pytest.MonkeyPatch, public_url: str, chosen: str, name: str
) -> None:
    monkeypatch.setenv("PUBLIC_URL", public_url)
    monkeypatch.setenv("SESSION_COOKIE_NAME", chosen)
    assert GatewaySettings().cookie_name == name


@pytest.mark.parametrize("name", ["__Host-platform", "__Secure-platform"])
def test_a_host_cookie_needs_https(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PUBLIC_URL", "http://clips.example")
    monkeypatch.setenv("SESSION_COOKIE_NAME", name)
    with pytest.raises(ValidationError, match="needs a PUBLIC_URL with https"):
        GatewaySettings()


DEVELOPMENT = {
    "DEVELOPMENT_SIGN_IN": "true",
    "ENVIRONMENT": "development",
    "JWT_ALGORITHM": "HS256",
    "JWT_SECRET": "x" * 32,
}


def test_sign_in_without_a_password_only_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in DEVELOPMENT.items():
        monkeypatch.setenv(name, value)
    assert GatewaySettings().development_sign_in
    monkeypatch.setenv("JWT_ALGORITHM", "RS256")
    with pytest.raises(ValidationError, match="DEVELOPMENT_SIGN_IN needs JWT_ALGORITHM=HS256"):
        GatewaySettings()
    monkeypatch.setenv("JWT_ALGORITHM", "HS256")
    for environment in ("production", ""):  # empty counts as unset
        monkeypatch.setenv("ENVIRONMENT", environment)
        with pytest.raises(ValidationError, match="DEVELOPMENT_SIGN_IN needs ENVIRONMENT=development"):
            GatewaySettings()


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_ORIGINS", "https://friends.example, http://127.0.0.1:8000,")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.1, 10.1.0.0/16,fd00::/8")
    settings = GatewaySettings()
    assert settings.embed_origins == ("https://friends.example", "http://127.0.0.1:8000")
    assert settings.trusted_proxies == ("10.0.0.1", "10.1.0.0/16", "fd00::/8")
