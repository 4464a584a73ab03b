"""Sign-in tokens, valid unless changed by keyword."""

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "a secret that is long enough for HS256"  # noqa: S105 - signs for tests only
ISSUER = "https://sign-in.example"
AUDIENCE = "clips"
KEY = generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()

PrivateKey = RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token for ``ann``; None leaves a claim out, a timedelta counts from now."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": timedelta(minutes=5)}
    now = time.time()
    return {
        name: int(now + value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in {**good, **changes}.items()
        if value is not None
    }


def hs256(secret: str = SECRET, **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, algorithm="HS256")


def rs256(key: RSAPrivateKey = KEY, kid: str | None = "key-1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm="RS256", headers={"kid": kid} if kid else {})


def es256(key: ec.EllipticCurvePrivateKey = EC_KEY, kid: str | None = "key-1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm="ES256", headers={"kid": kid} if kid else {})


def eddsa(key: Ed25519PrivateKey = ED_KEY, kid: str | None = "key-1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm="EdDSA", headers={"kid": kid} if kid else {})


def hmac_with_public_key(key: RSAPrivateKey = KEY) -> str:
    """The classic forgery: an HS256 token whose secret is the RSA public key, which is public."""
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'key-1'})}.{_part(claims())}"
    signature = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encode(signature)}"


def unsigned() -> str:
    return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims())}."


def jwk(key: PrivateKey) -> dict[str, Any]:
    """The public half of a key, as a key set contains it."""
    public = key.public_key()
    if isinstance(public, RSAPublicKey):
        return jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    return jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)


def jwks(**keys: PrivateKey) -> dict[str, Any]:
    """The key set with the public halves of keys by id (``_`` in a name stands for ``-``)."""
    return {"keys": [{**jwk(key), "kid": kid.replace("_", "-"), "use": "sig"} for kid, key in keys.items()]}


def _part(content: dict[str, Any]) -> str:
    return _encode(json.dumps(content).encode())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
