"""An operator, an account and a user of NATS, as ``nsc`` would make them (JWT claims version 2)."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import nkeys  # type: ignore[import-untyped]


def _key(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), prefix))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _claims(subject: nkeys.KeyPair, issuer: nkeys.KeyPair, name: str, nats: dict[str, object]) -> str:
    body = {
        "iat": 1_700_000_000,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": name,
        "nats": {"version": 2, **nats},
    }
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).rstrip(b"=").decode()
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, body))
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


@dataclass
class Identities:
    """A server configuration that trusts one operator, and the credentials file of one user."""

    config: str
    credentials: str

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write both; return the paths of the configuration and of the credentials."""
        config, credentials = directory / "operator.conf", directory / "user.creds"
        config.write_text(self.config)
        credentials.write_text(self.credentials)
        return config, credentials


def make_identities(port: int) -> Identities:
    """Make a fresh operator with one account and one user in it."""
    operator = _key(nkeys.PREFIX_BYTE_OPERATOR)
    account = _key(nkeys.PREFIX_BYTE_ACCOUNT)
    user = _key(nkeys.PREFIX_BYTE_USER)
    unlimited = {"subs": -1, "data": -1, "payload": -1}
    limits = {**unlimited, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    operator_jwt = _claims(operator, operator, "operator", {"type": "operator"})
    account_jwt = _claims(account, operator, "account", {"type": "account", "limits": limits})
    user_jwt = _claims(user, account, "user", {"type": "user", **unlimited})
    return Identities(
        config=(
            f'listen: "127.0.0.1:{port}"\n'
            f'operator: "{operator_jwt}"\n'
            "resolver: MEMORY\n"
            f'resolver_preload: {{ {account.public_key.decode()}: "{account_jwt}" }}\n'
        ),
        credentials=(
            f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        ),
    )
