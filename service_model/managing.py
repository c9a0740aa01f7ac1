"""What a broker asks a service-specific manager, and what that may answer.

A manager is the customer's. It is asked while a reservation is worked out, and chooses where the operator would choose
otherwise: what size functions are (SCALE) and where (PLACE), which prefixes and addresses links have (ADDRESS), what functions
are told (CONFIGURE). And it is asked when what is lost of a live service would be bought elsewhere (HEAL).

Rules kept here
- A question holds what the customer may see and nothing else: its own spec, its words for places, its own aliases of suppliers.
- An answer is one of three: a choice, "as you would" or a refusal. One that is none of them, or two, cannot be read.
- What is chosen is judged by the broker (`broker.orders.judging`): a manager widens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from service_model.flavours import Flavour
from service_model.money import FREE, Price
from service_model.spec import STRICT, ServiceSpec
from service_model.words import Address, Instant, Name, PointName, Prefix, Word

MAX_DETAIL = 300
"""Characters of what a manager says, and of what is recorded of a decision."""
MAX_WAIT_S = 86_400
"""For how long a manager may put a healing off at once."""
Said = Annotated[str, Field(max_length=MAX_DETAIL)]


class ManagerTask(Word):
    """What a manager may decide."""

    UNSPECIFIED = "MANAGER_TASK_UNSPECIFIED"
    PLACE = "MANAGER_TASK_PLACE"
    ADDRESS = "MANAGER_TASK_ADDRESS"
    CONFIGURE = "MANAGER_TASK_CONFIGURE"
    HEAL = "MANAGER_TASK_HEAL"
    SCALE = "MANAGER_TASK_SCALE"


class DecisionOutcome(Word):
    """What came of a question: CHOSEN by the manager, left to the broker by it (DEFAULT) or because it did not decide as it
    may (FALLBACK), or the service is REFUSED; of HEAL, it is left as it is."""

    UNSPECIFIED = "DECISION_OUTCOME_UNSPECIFIED"
    CHOSEN = "DECISION_OUTCOME_CHOSEN"
    DEFAULT = "DECISION_OUTCOME_DEFAULT"
    FALLBACK = "DECISION_OUTCOME_FALLBACK"
    REFUSED = "DECISION_OUTCOME_REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerDecision:
    """What a manager decided of a service, as its owner reads it."""

    at: Instant
    manager: str
    task: ManagerTask
    outcome: DecisionOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consultation:
    """Which service a question is about. The same (ref, version, task, number) is the same question: it may come twice."""

    ref: str
    version: int
    number: int
    manager: str
    spec: ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlace:
    """A function at a place, in the customer's word, and at one supplier, by alias; "": whoever has it there."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    function: Name
    place: Name
    supplier: Annotated[str, Field(max_length=63)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementOption:
    """A plan that would do, by `id`: where it has the functions, its price and the delay of its slowest path, microseconds."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: str
    places: tuple[FunctionPlace, ...]
    price: Price = FREE
    delay_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementOffer:
    """Where a function may be had. `country` is ISO 3166-1 alpha-2; "": not told."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    function: Name
    place: Name
    supplier: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceQuestion:
    """The plans that would do, the best first, and everything that functions may be placed at."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    options: tuple[PlacementOption, ...]
    offers: tuple[PlacementOffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavourOffer:
    """A flavour that a function may have, at the price that its customer pays, and where. `by_default`: it has that there if
    nothing is chosen."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    function: Name
    flavour: Flavour
    by_default: bool = False
    place: Name
    supplier: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleQuestion:
    """Every flavour that functions may have of which the spec does not say one."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    offers: tuple[FlavourOffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLink:
    """A link that lacks a prefix of each of these IP versions (none given: of either); its ports, and how many addresses at
    least a prefix needs to have."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    link: Name
    ports: tuple[PointName, ...]
    versions: tuple[int, ...] = ()
    addresses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressQuestion:
    """The links that need prefixes, what these may be of, and what they keep off."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    links: tuple[OpenLink, ...]
    allowed: tuple[Prefix, ...]
    excluded: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureQuestion:
    """Where the functions are going to be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    placement: tuple[FunctionPlace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealQuestion:
    """The functions that are `lost` with a part of a live service, what is broken and since when, how many healings were begun,
    where the functions are, and where those that are lost may be had."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    lost: tuple[Name, ...]
    reasons: tuple[str, ...]
    since: Instant
    tries: int = 0
    placement: tuple[FunctionPlace, ...] = ()
    offers: tuple[PlacementOffer, ...] = ()


Question = PlaceQuestion | AddressQuestion | ConfigureQuestion | HealQuestion | ScaleQuestion
TASK_OF: Mapping[type[Question], ManagerTask] = {
    PlaceQuestion: ManagerTask.PLACE,
    AddressQuestion: ManagerTask.ADDRESS,
    ConfigureQuestion: ManagerTask.CONFIGURE,
    HealQuestion: ManagerTask.HEAL,
    ScaleQuestion: ManagerTask.SCALE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """An option by its id, or places: of functions that are not named, the broker's. Not both."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    option: Annotated[str, Field(max_length=63)] = ""
    places: Annotated[tuple[FunctionPlace, ...], Field(max_length=64)] = ()

    def __post_init__(self) -> None:
        if bool(self.option) == bool(self.places):
            raise ValueError("a placement is an option, or places")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAddresses:
    """The prefixes of one link, at most one of a family, and addresses of its functions' ports: of those that are not named,
    the suppliers'."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    link: Name
    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1, max_length=2)]
    addresses: Annotated[Mapping[PointName, Address], Field(max_length=64)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Of links that are not named, the broker chooses."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    links: Annotated[tuple[LinkAddresses, ...], Field(min_length=1, max_length=128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionParameters:
    """Parameters of one function, which replace those of the spec key by key."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    function: Name
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Of functions that are not named, parameters are as in the spec."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    functions: Annotated[tuple[FunctionParameters, ...], Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Not now, but to be asked again after `wait_s`; or now, and none of these places to `avoid`. Neither: now."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    wait_s: Annotated[int, Field(ge=0, le=MAX_WAIT_S)] = 0
    avoid: Annotated[tuple[FunctionPlace, ...], Field(max_length=1000)] = ()

    def __post_init__(self) -> None:
        if self.wait_s and self.avoid:
            raise ValueError("a remedy is to wait, or to avoid places")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFlavour:
    """The flavour of one function, by its name."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    function: Name
    flavour: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Functions that are not named have the flavour that they have by default where they are placed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    flavours: Annotated[tuple[FunctionFlavour, ...], Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class ByDefault:
    """As the broker would without a manager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerRefusal:
    """The service is not to be had so."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    message: Said


Choice = Placement | Addresses | Configuration | Remedy | Scaling
Answer = Choice | ByDefault | ManagerRefusal
