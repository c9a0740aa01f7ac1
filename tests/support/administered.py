"""Documents of a small, consistent SP as an operator would hand them in, to be varied by tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from broker.accounts.pki import Credential, create_authority
from broker.settings.administered import DOCUMENTS
from broker.settings.present import Administered
from capability_registry.keys import SigningKey
from tests.support.clock import Sleeper

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWN = "transit"
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"


class Hands(Sleeper):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@cache
def authority(sp_id: str) -> Credential:
    return create_authority(sp_id, NOW)


@cache
def note_key(sp_id: str) -> SigningKey:
    return SigningKey.generate(lambda n: sp_id.encode().ljust(n, b".")[:n])


def anchor(sp_id: str) -> dict[str, Any]:
    jwk = note_key(sp_id).public.to_jwk()
    return {"sp_id": sp_id, "ca": authority(sp_id).certificate.decode(), "note_keys": {"keys": [dict(jwk)]}}


def place(name: str = "zrh", **more: Any) -> dict[str, Any]:
    return {"kind": "place", "name": name, "country": "CH", **more}


def interconnect(name: str = "ic-1", **more: Any) -> dict[str, Any]:
    return {
        "kind": "interconnect",
        "name": name,
        "peer": "lower",
        "labels": "100-199",
        "decides_labels": True,
        **more,
    }


def domain(name: str = "dc", **more: Any) -> dict[str, Any]:
    way = {"name": "fibre", "delay_us": 500, "price": {"per_hour": "0.1"}}
    return {
        "kind": "domain",
        "name": name,
        "driver": "simulated",
        "places": [{"place": "zrh", "bins": [{"size": 4, "count": 2}]}],
        "saps": [
            {"id": "site-a", "role": "UNI", "place": "zrh"},
            {"id": "to-lower", "role": "NNI", "place": "zrh", "encapsulation": "VXLAN", "interconnect": "ic-1"},
        ],
        "links": [{"a": "site-a", "b": "zrh", "ways": [way]}, {"a": "zrh", "b": "to-lower", "ways": [way]}],
        **more,
    }


def function(name: str = "firewall", **more: Any) -> dict[str, Any]:
    ports = [{"name": "input"}, {"name": "output"}, {"name": "mgmt", "role": "MANAGEMENT"}]
    return {
        "kind": "function",
        "name": name,
        "type": f"eu.spbroker/{name}/1.0",
        "implementation": name,
        "ports": ports,
        **more,
    }


def supplier(name: str = "lower", **more: Any) -> dict[str, Any]:
    sp_id = more.get("sp_id", name)
    return {
        "kind": "supplier",
        "name": name,
        "sp_id": sp_id,
        "endpoint": "lower.example:7444",
        "anchor": anchor(sp_id),
        "account": "transit",
        **more,
    }


def pool(name: str = "v4", **more: Any) -> dict[str, Any]:
    return {"kind": "pool", "name": name, "prefix": "10.0.0.0/16", "block": 24, **more}


def agreement(name: str = "gold", **more: Any) -> dict[str, Any]:
    return {"kind": "agreement", "name": name, "margin_percent": "10", **more}


def person(name: str = "ann", **more: Any) -> dict[str, Any]:
    return {"kind": "account", "name": name, "agreement": "gold", **more}


def operator(name: str = "root", **more: Any) -> dict[str, Any]:
    return {"kind": "account", "name": name, "roles": ["operator"], "password_hash": HASH, **more}


def service(name: str = "upper", **more: Any) -> dict[str, Any]:
    return {"kind": "account", "name": name, "type": "service", "agreement": "gold", "anchor": anchor(name), **more}


def everything() -> list[dict[str, Any]]:
    return [
        place(),
        interconnect(),
        domain(),
        function(),
        supplier(),
        pool(),
        agreement(),
        person(),
        operator(),
        service(),
    ]


def replaced(*documents: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Everything, with these in the place of those of their kind and name."""
    by_key = {(d["kind"], d["name"]): d for d in [*everything(), *documents]}
    return tuple(by_key.values())


def administered(*documents: dict[str, Any]) -> Administered:
    return Administered.of(DOCUMENTS.validate_python(replaced(*documents)))
