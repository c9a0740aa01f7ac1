"""An example of a service-specific manager: functions stay in one country, as small as will do, at the fewest suppliers.

A customer runs it, and gives its operator the end point and the authority of its certificate (docs/administration.md). It is
asked `Place` for every service whose spec names it. Of the plans that the broker found it takes the first that is wholly in
the country; where there is none, the places in the country of the supplier that has most of the functions. A service of which
a function is not offered in the country is refused. Asked `Scale`, it takes for each function the smallest flavour in the country
that forwards the bandwidth which is ordered, so that a modification to more makes it grow. Addresses and parameters are left to
the broker. Asked `Heal`, it keeps what is lost of a live service in the country as well; where that is not offered there any
more, the service is left until its owner asks for it.

    python docs/examples/placement_manager.py --country GR --listen 0.0.0.0:7443 \
        --certificate server.pem --key server.key --broker-ca broker-ca.pem

`--broker-ca` is the `ca` in the broker's anchor.json: nobody else may ask.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections import Counter
from pathlib import Path

import grpc

from spbroker.v1 import manager_service_pb2 as pb
from spbroker.v1 import manager_service_pb2_grpc


def placed(question: pb.PlaceQuestion, country: str) -> pb.PlaceResponse:
    """The decision; pure, so that the same question has the same answer."""
    allowed = [offer for offer in question.offers if offer.country == country]
    at = {(o.function, o.place, o.supplier) for o in allowed}
    for option in question.options:
        if all((p.function, p.place, p.supplier) in at for p in option.places):
            return pb.PlaceResponse(chosen=pb.Placement(option=option.id))
    suppliers = Counter(supplier for _, supplier in {(o.function, o.supplier) for o in allowed})
    places = []
    for function in dict.fromkeys(offer.function for offer in question.offers):
        mine = [offer for offer in allowed if offer.function == function]
        if not mine:
            return pb.PlaceResponse(refusal=pb.ManagerRefusal(message=f"{function} is not offered in {country}"))
        best = max(mine, key=lambda offer: (suppliers[offer.supplier], offer.supplier, offer.place))
        places.append(pb.FunctionPlace(function=function, place=best.place, supplier=best.supplier))
    return pb.PlaceResponse(chosen=pb.Placement(places=places))


def remedied(question: pb.HealQuestion, country: str) -> pb.HealResponse:
    """Where what is lost may be bought elsewhere; pure as well."""
    lost = set(question.lost)
    if lost - {offer.function for offer in question.offers if offer.country == country}:
        return pb.HealResponse(refusal=pb.ManagerRefusal(message=f"what is lost is not offered in {country}"))
    abroad = [offer for offer in question.offers if offer.country != country]
    avoid = [pb.FunctionPlace(function=o.function, place=o.place, supplier=o.supplier) for o in abroad]
    return pb.HealResponse(chosen=pb.Remedy(avoid=avoid))


def scaled(question: pb.ScaleQuestion, bandwidth_bps: int, country: str) -> pb.ScaleResponse:
    """What size functions are to be; pure as well. What a flavour forwards is 0 where that is as much as the links carry."""
    smallest: dict[str, pb.FlavourOffer] = {}
    for offer in question.offers:
        enough = not 0 < offer.flavour.max_bandwidth_bps < bandwidth_bps
        if offer.country == country and enough:
            known = smallest.setdefault(offer.function, offer)
            smallest[offer.function] = min(known, offer, key=size)
    if lacking := sorted({offer.function for offer in question.offers} - set(smallest)):
        why = f"{lacking[0]} is not offered in {country} in a size that forwards {bandwidth_bps} bit/s"
        return pb.ScaleResponse(refusal=pb.ManagerRefusal(message=why))
    flavours = [pb.FunctionFlavour(function=f, flavour=offer.flavour.name) for f, offer in smallest.items()]
    return pb.ScaleResponse(chosen=pb.Scaling(flavours=flavours))


def size(offer: pb.FlavourOffer) -> tuple[int, str]:
    """What sizes are compared by: what they take of a host."""
    return offer.flavour.units if offer.flavour.HasField("units") else 1, offer.flavour.name


class PlacementManager(manager_service_pb2_grpc.ServiceManagerServicer):
    def __init__(self, country: str) -> None:
        self._country = country

    async def Place(self, request: pb.PlaceRequest, context: grpc.aio.ServicerContext) -> pb.PlaceResponse:
        answer = placed(request.question, self._country)
        asked = request.consultation
        print(f"{asked.ref} version {asked.version}: {answer.WhichOneof('decision')}", flush=True)
        return answer

    async def Address(self, request: pb.AddressRequest, context: grpc.aio.ServicerContext) -> pb.AddressResponse:
        return pb.AddressResponse(by_default=pb.ByDefault())

    async def Configure(self, request: pb.ConfigureRequest, context: grpc.aio.ServicerContext) -> pb.ConfigureResponse:
        return pb.ConfigureResponse(by_default=pb.ByDefault())

    async def Heal(self, request: pb.HealRequest, context: grpc.aio.ServicerContext) -> pb.HealResponse:
        answer = remedied(request.question, self._country)
        asked = request.consultation
        print(f"{asked.ref} version {asked.version}: heal {answer.WhichOneof('decision')}", flush=True)
        return answer

    async def Scale(self, request: pb.ScaleRequest, context: grpc.aio.ServicerContext) -> pb.ScaleResponse:
        asked = request.consultation
        answer = scaled(request.question, asked.spec.bandwidth_bps, self._country)
        print(f"{asked.ref} version {asked.version}: scale {answer.WhichOneof('decision')}", flush=True)
        return answer


async def serve(country: str, listen: str, certificate: bytes, key: bytes, broker_ca: bytes) -> None:
    """Until SIGTERM or SIGINT. The first line that is printed says at which port."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server = grpc.aio.server()
    manager_service_pb2_grpc.add_ServiceManagerServicer_to_server(PlacementManager(country), server)
    credentials = grpc.ssl_server_credentials([(key, certificate)], broker_ca, require_client_auth=True)
    port = server.add_secure_port(listen, credentials)
    await server.start()
    print(f"listening at port {port}", flush=True)
    await stopping.wait()
    await server.stop(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Keeps functions in one country, at the fewest suppliers.")
    parser.add_argument("--country", required=True, metavar="CC", help="ISO 3166-1 alpha-2")
    parser.add_argument("--listen", default="127.0.0.1:7443", metavar="HOST:PORT")
    for name in ("certificate", "key", "broker-ca"):
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="PEM")
    given = parser.parse_args()
    pems = (given.certificate.read_bytes(), given.key.read_bytes(), given.broker_ca.read_bytes())
    asyncio.run(serve(given.country, given.listen, *pems))


if __name__ == "__main__":
    main()
