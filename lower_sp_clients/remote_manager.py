"""A customer's service-specific manager over gRPC, as a ServiceManager.

Rules kept here
- Mutual TLS: its certificate is of the authority that the operator administered, and ours says which broker asks.
- An answer is read whole within MAX_ANSWER_BYTES, or not at all; whatever is no answer is `NoDecision`, in words for the
  customer.
- A call is made once: who asks again is the order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from lower_sp_clients import wire
from lower_sp_clients.remote_sp.session import CallFailed, ClientTls, failures
from lower_sp_clients.service_manager import NoDecision
from service_model.managing import (
    AddressQuestion,
    Answer,
    ByDefault,
    Choice,
    ConfigureQuestion,
    Consultation,
    HealQuestion,
    PlaceQuestion,
    Question,
    ScaleQuestion,
)
from spbroker.v1 import manager_service_pb2 as pb
from spbroker.v1 import manager_service_pb2_grpc

MAX_ANSWER_BYTES = 262_144
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class RemoteManager:
    """The manager at `endpoint` (`host:port`)."""

    def __init__(self, endpoint: str, tls: ClientTls) -> None:
        override = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
        credentials = grpc.ssl_channel_credentials(tls.roots, tls.key, tls.certificate)
        self._channel = grpc.aio.secure_channel(endpoint, credentials, options=(*OPTIONS, *override))
        self._stub: Any = manager_service_pb2_grpc.ServiceManagerStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._channel.close()

    async def decide(self, about: Consultation, question: Question, timeout_s: float) -> Answer:
        consultation = wire.CONSULTATION.encode(about)
        read: Callable[[Any], Choice]
        match question:
            case PlaceQuestion():
                call, read = self._stub.Place, wire.PLACEMENT.decode
                request: Any = pb.PlaceRequest(consultation=consultation, question=wire.PLACE_QUESTION.encode(question))
            case AddressQuestion():
                call, read = self._stub.Address, wire.ADDRESSES.decode
                request = pb.AddressRequest(consultation=consultation, question=wire.ADDRESS_QUESTION.encode(question))
            case ConfigureQuestion():
                call, read = self._stub.Configure, wire.CONFIGURATION.decode
                told = wire.CONFIGURE_QUESTION.encode(question)
                request = pb.ConfigureRequest(consultation=consultation, question=told)
            case HealQuestion():
                call, read = self._stub.Heal, wire.REMEDY.decode
                request = pb.HealRequest(consultation=consultation, question=wire.HEAL_QUESTION.encode(question))
            case ScaleQuestion():
                call, read = self._stub.Scale, wire.SCALING.decode
                request = pb.ScaleRequest(consultation=consultation, question=wire.SCALE_QUESTION.encode(question))
        try:
            with failures():
                answer = await call(request, timeout=timeout_s)
            return _read(answer, read)
        except CallFailed as error:
            raise NoDecision(_why(error, timeout_s)) from error
        except wire.WireError as error:
            raise NoDecision(f"its answer cannot be read: {error}") from error


def _read(answer: Any, read: Callable[[Any], Choice]) -> Answer:
    match answer.WhichOneof("decision"):
        case "chosen":
            return read(answer.chosen)
        case "by_default":
            return ByDefault()
        case "refusal":
            return wire.MANAGER_REFUSAL.decode(answer.refusal)
        case _:
            raise NoDecision("its answer cannot be read: it decides nothing")


def _why(error: CallFailed, timeout_s: float) -> str:
    match error.code:
        case "DEADLINE_EXCEEDED":
            return f"no answer within {timeout_s:g} s"
        case "UNAVAILABLE":
            return "it cannot be reached"
        case _:
            return f"it answered {error.code}: {error.message}"
