"""Plans of trees, diamonds and paths side by side, against a plain enumerator."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, pairwise, product

import pytest

from broker.decompose.labelling import EFFORT, Effort
from broker.decompose.plan import Infeasible, Joint, Plan, Snapshot, Stretch
from broker.decompose.search import plan
from service_model.constraints import PLACEMENT, Distance, Group, GroupKind, GroupScope
from service_model.flows import PATHS
from service_model.outcomes import ReasonCode
from service_model.spec import ServiceSpec
from tests.support.mesh_enumerator import Oracle
from tests.support.planning import (
    NOW,
    entry,
    lan,
    mesh_spec,
    offer,
    point,
    random_snapshot,
    sap,
    snapshot,
    view,
)

SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tree": (("f",), ("a f b", "a f c")),
    "deeper tree": (("f", "g"), ("a f g b", "a f c")),
    "diamond": (("f", "g", "h"), ("a f g h b", "a f h b")),
    "two paths through one function": (("f",), ("a f b", "c f d")),
    "two paths": (("f",), ("a f b", "c d")),
}


HOSTED = {
    "deeper tree": SHAPES["deeper tree"],
    "diamond": SHAPES["diamond"],
    "wider tree": (("f", "g", "h"), ("a f g b", "a f h c")),
    "three in a row": (("f", "g", "h"), ("a f g h b", "a f c")),
}


def random_mesh(shape: str, seed: int) -> tuple[ServiceSpec, Snapshot]:
    rng = random.Random(f"{shape}/{seed}")
    functions, paths = (SHAPES | HOSTED)[shape]
    snapshot = random_snapshot(seed, 3, labels=rng.choice([0, 2]), joints=1)
    ends = {e: rng.choice(["s0.uni", "s1.uni", "s2.uni"]) for e in sorted({e for p in paths for e in (p[0], p[-1])})}
    groups: tuple[Group, ...] = ()
    if len(functions) > 1 and rng.random() < 0.4:
        kind, scope = rng.choice(list(GroupKind)[1:]), rng.choice([GroupScope.PLACE, GroupScope.SUPPLIER])
        groups = (Group(id="g", kind=kind, scope=scope, functions=functions[:2]),)
    types = {f: rng.choice("xy") for f in functions}
    spec = mesh_spec(ends, types, *paths, bandwidth_bps=rng.choice([0, 1, 2]), groups=groups, term_hours=1,
                     min_mtu=rng.choice([1280, 1280, 9000]))  # fmt: skip
    return spec, snapshot


def planned(spec: ServiceSpec, snap: Snapshot, alternatives: int = 3, effort: Effort = EFFORT) -> tuple[Plan, ...]:
    answer = plan(spec, snap, NOW, None, alternatives, effort)
    assert not isinstance(answer, Infeasible), answer
    return answer


def joints(snapshot: Snapshot) -> dict[tuple[str, str], str]:
    return {(v.alias, s.id): s.interconnect for v in snapshot.suppliers for s in v.note.saps if s.interconnect}


def judge(spec: ServiceSpec, snapshot: Snapshot, made: Plan) -> None:
    """What must hold of every plan, from the plan alone."""
    crossing, ends = joints(snapshot), {e.id: e.sap.split(".") for e in spec.ends}
    home = {f: n for n, segment in enumerate(made.segments) for f in segment.functions}
    assert sorted(home) == sorted(f.id for f in spec.functions)
    assert sum(segment.price.over(spec.term_hours) for segment in made.segments) == made.cost
    touched: set[int] = set()
    for link in spec.links:
        stretches = made.lines[link.id]
        a, b = (point.partition(":")[0] for point in link.points)
        for owner, stretch, at in ((a, stretches[0], stretches[0].entry), (b, stretches[-1], stretches[-1].exit)):
            assert [made.segments[stretch.segment].alias, at] == ends[owner] if owner in ends else at is None
            assert owner in ends or stretch.segment == home[owner]
        for before, after in pairwise(stretches):
            out = made.segments[before.segment].alias, str(before.exit)
            into = made.segments[after.segment].alias, str(after.entry)
            assert out != into
            assert crossing[out] == crossing[into] == after.interconnect
        touched |= {stretch.segment for stretch in stretches}
    assert touched == set(range(len(made.segments)))
    for path in spec.paths:
        budget = sum(us for segment in made.segments for us in segment.budgets.get(path.id, ()))
        limit = spec.delay_limit(path)
        assert budget <= (limit if limit is not None else made.delay_us)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_best_mesh_is_the_optimum_and_the_others_follow_in_order(shape: str) -> None:
    good = refused = 0
    for seed in range(24):
        spec, snapshot = random_mesh(shape, seed)
        effort = Effort(easy=1) if seed % 3 else EFFORT  # which makes it price what binds at once
        answer = plan(spec, snapshot, NOW, None, 3, effort)
        if not isinstance(answer, Infeasible) and seed % 2:
            bound = int(answer[0].delay_us * random.Random(seed).uniform(0.4, 1))
            spec = (
                replace(spec, paths=(spec.paths[0], replace(spec.paths[1], max_delay_us=bound)))
                if seed % 4 == 1
                else replace(spec, max_delay_us=bound)
            )
            answer = plan(spec, snapshot, NOW, None, 3, effort)
        expected = Oracle(spec, snapshot).best()
        if isinstance(answer, Infeasible):
            assert expected is None, seed
            assert answer.reasons[0].code is not ReasonCode.SHAPE_NOT_OFFERED
            refused += 1
            continue
        assert answer[0].cost == expected, seed
        assert [p.cost for p in answer] == sorted(p.cost for p in answer)
        assert len({str(sorted(p.lines.items())) + str([s.places for s in p.segments]) for p in answer}) == len(answer)
        for made in answer:
            judge(spec, snapshot, made)
        good += 1
    assert good >= 3
    assert refused >= 3


def hosted_mesh(shape: str, seed: int) -> tuple[ServiceSpec, Snapshot]:
    """A random mesh with a group by host, a distance by delay, or both; some suppliers are domains of our own, and places
    have one host or two."""
    rng = random.Random(f"hosts/{shape}/{seed}")
    functions, paths = HOSTED[shape]
    spec, snap = random_mesh(shape, seed)
    views = []
    for v in snap.suppliers:
        rooms = tuple(replace(c, bins=(replace(c.bins[0], count=rng.choice([1, 2])),)) for c in v.note.capacities)
        views.append(replace(v, local=rng.random() < 0.5, note=replace(v.note, capacities=rooms)))
    groups: tuple[Group, ...] = ()
    if rng.random() < 0.7:
        members = tuple(rng.sample(functions, rng.randint(2, len(functions))))
        groups = (Group(id="hosts", kind=rng.choice(list(GroupKind)[1:]), scope=GroupScope.HOST, functions=members),)
    distances: tuple[Distance, ...] = ()
    if not groups or rng.random() < 0.5:
        function, to = rng.sample(paths[rng.randrange(2)].split(), 2)
        function, to = (function, to) if function in functions else (to, function)
        distances = (Distance(id="soon", function=function, to=to, max_delay_us=rng.randint(4, 25)),)
    return replace(spec, groups=groups, distances=distances, bandwidth_bps=rng.choice([0, 0, 1])), replace(
        snap, suppliers=tuple(views)
    )


@pytest.mark.parametrize("shape", HOSTED)
def test_groups_by_host_and_distances_by_delay_are_kept_at_the_least_price(shape: str) -> None:
    good = refused = bound = 0
    for seed in range(40):
        spec, snap = hosted_mesh(shape, seed)
        answer = plan(spec, snap, NOW, None, 1, Effort(easy=1) if seed % 2 else EFFORT)
        expected = Oracle(spec, snap).best()
        if isinstance(answer, Infeasible):
            assert expected is None, seed
            refused += 1
            continue
        assert answer[0].cost == expected, seed
        judge(spec, snap, answer[0])
        free = plan(replace(spec, groups=(), distances=()), snap, NOW, None, 1)
        bound += isinstance(free, tuple) and free[0].cost < answer[0].cost
        good += 1
    assert good >= 5
    assert refused >= 5
    assert bound >= 2


@pytest.mark.parametrize("seed", [39, 50, 86, 120, 134])
def test_a_hard_search_settles_for_what_is_nearly_the_best(seed: int) -> None:
    spec, snapshot = random_mesh("tree", seed)
    (best,), (settled,) = planned(spec, snapshot, 1), planned(spec, snapshot, 1, Effort(easy=1, exact=1, settle=2.0))
    assert best.cost < settled.cost <= best.cost * 2
    judge(spec, snapshot, settled)


def test_a_search_that_gives_up_says_so() -> None:
    found = plan(TREE, federation(), NOW, None, 1, Effort(easy=1, exact=1, most=1))
    assert isinstance(found, Infeasible)
    assert [r.message for r in found.reasons] == ["no plan was found in 1 steps of the search; there may be one"]


def test_a_search_that_gives_up_answers_with_what_it_found_in_a_hurry() -> None:
    spec, snapshot = random_mesh("diamond", 20)
    (made,) = planned(spec, snapshot, 1, Effort(easy=1, exact=20, most=20))
    judge(spec, snapshot, made)
    assert isinstance(plan(spec, snapshot, NOW, None, 1, Effort(easy=1, exact=10, most=10)), Infeasible)


@pytest.mark.parametrize("most", [6, 14, 30])
def test_where_there_is_a_plan_no_search_says_that_there_is_none(most: int) -> None:
    given_up = 0
    for shape, seed in product(("tree", "diamond"), range(30)):
        spec, snapshot = random_mesh(shape, seed)
        best = plan(spec, snapshot, NOW, None, 1)
        if isinstance(best, Infeasible):
            continue
        answer = plan(spec, snapshot, NOW, None, 1, Effort(easy=1, exact=most, most=most))
        if isinstance(answer, Infeasible):
            assert answer.reasons[0].message == f"no plan was found in {most} steps of the search; there may be one"
            given_up += 1
        else:
            assert answer[0].cost >= best[0].cost
            judge(spec, snapshot, answer[0])
    assert given_up or most > 14


# --- a federation to look at: mid between west and east; branching is at mid ------------------------------------------


def federation(features: tuple[str, ...] = (PATHS, PLACEMENT), **mid: object) -> Snapshot:
    """`west.uni`, `east.uni`, `north.uni` around mid, over one joint each; function x at mid, y everywhere."""
    far = {
        name: view(
            name,
            [sap("uni", f"{name}p"), sap("n", f"{name}p", to=f"ix-{name}", peer="sp-mid")],
            [
                entry("uni", "n", point(1, 10)),
                entry("uni", f"{name}p", point(1, 5)),
                entry("n", f"{name}p", point(1, 5)),
            ],
            [offer("y", f"{name}p", cost=3)],
        )
        for name in ("west", "east", "north")
    }
    saps = [sap(name, "MID", to=f"ix-{name}", peer=f"sp-{name}", decides_labels=True) for name in far]
    ways = [entry(x, y, point(2, 20)) for x, y in combinations([*far, "MID"], 2)]
    hub = view("mid", saps, ways, [offer("x", "MID", cost=5), offer("y", "MID", cost=9)], api_features=features, **mid)  # type: ignore[arg-type]
    return snapshot(hub, *far.values())


ENDS = {"a": "west.uni", "b": "east.uni", "c": "north.uni"}
TREE = mesh_spec(ENDS, {"f": "x", "g": "y"}, "a f g b", "a f c", term_hours=1)


def test_a_tree_is_split_where_its_functions_are() -> None:
    best, *_ = planned(TREE, federation())
    held = [(s.alias, s.functions) for s in best.segments]
    assert held == [("west", ()), ("mid", ("f",)), ("east", ("g",)), ("north", ())]
    before, after = best.lines["a-f"]
    assert before == Stretch(segment=0, entry="uni", exit="n")
    assert after == Stretch(segment=1, entry="west", exit=None, interconnect="ix-west")
    assert [s.segment for s in best.lines["f-g"]] == [1, 2]
    assert [s.segment for s in best.lines["f-c"]] == [1, 3]
    assert best.delay_us == 10 + 20 + 20 + 5 + 5
    assert best.segments[1].budgets == {"p0": (40,), "p1": (40,)}


def test_a_branch_that_comes_back_to_where_it_parted_is_one_segment() -> None:
    diamond = mesh_spec({"a": "west.uni", "b": "east.uni"}, {"f": "x", "g": "y", "h": "y", "j": "x"},
                        "a f g j b", "a f h j b", term_hours=1)  # fmt: skip
    best, *_ = planned(diamond, federation())
    assert sorted(s.alias for s in best.segments) == ["east", "mid", "west"]
    assert {f: s.alias for s in best.segments for f in s.functions} == {"f": "mid", "g": "mid", "h": "mid", "j": "mid"}
    assert best.lines["f-g"] == (Stretch(segment=1, entry=None, exit=None),)


def test_paths_that_share_nothing_are_planned_side_by_side() -> None:
    spec = mesh_spec({**ENDS, "d": "north.uni"}, {"f": "y"}, "a f b", "c d", term_hours=1)
    found = plan(spec, federation(), NOW)
    assert isinstance(found, Infeasible)  # from north to north there is nothing but the way round inside a SAP
    assert (found.reasons[0].code, found.reasons[0].subject) == (ReasonCode.NO_PATH, "p1")
    assert found.reasons[0].message == "path 'p1': no way from 'north.uni' to 'north.uni'"
    best, *_ = planned(mesh_spec({**ENDS, "d": "west.uni"}, {"f": "y"}, "a f b", "c d", term_hours=1), federation())
    assert len(best.lines["c-d"]) == 3
    aliases = [segment.alias for segment in best.segments]
    assert len(set(aliases)) == len(aliases), "a supplier knows all that it delivers of a service"
    assert {s.segment for s in best.lines["c-d"]} & {s.segment for s in best.lines["a-f"]}


def test_a_path_that_is_late_is_named_with_its_figures_and_the_nearest_plan() -> None:
    spec = replace(TREE, paths=(TREE.paths[0], replace(TREE.paths[1], max_delay_us=59)))
    found = plan(spec, federation(), NOW)
    assert isinstance(found, Infeasible)
    (reason,) = found.reasons
    assert (reason.code, reason.subject) == (ReasonCode.DELAY, "p1")
    assert reason.message == "delay of path 'p1': best 0.06 ms > 0.059 ms over interconnects 'ix-west', 'ix-north'"
    assert found.nearest[0].plan.cost == planned(TREE, federation())[0].cost


def test_a_bound_of_one_path_leaves_the_other_alone() -> None:
    spec = replace(TREE, paths=(replace(TREE.paths[0], max_delay_us=100), TREE.paths[1]))
    best, *_ = planned(spec, federation())
    assert [s.budgets["p1"] for s in best.segments if "p1" in s.budgets] == [(10,), (40,), (10,)]
    assert sum(s.budgets["p0"][0] for s in best.segments if "p0" in s.budgets) in range(98, 101)


def test_where_paths_part_a_supplier_must_deliver_several() -> None:
    found = plan(TREE, federation(features=(PLACEMENT,)), NOW)
    assert isinstance(found, Infeasible)
    assert (found.reasons[0].code, found.reasons[0].subject) == (ReasonCode.FEATURE_NOT_OFFERED, PATHS)
    assert found.reasons[0].message == "feature 'paths': mid does not offer it, and no way is without such suppliers"


def test_functions_of_one_host_are_in_one_segment_however_the_branches_go() -> None:
    both = Group(id="both", kind=GroupKind.AFFINITY, scope=GroupScope.HOST, functions=("g", "h"))
    spec = mesh_spec(ENDS, {"f": "x", "g": "y", "h": "y"}, "a f g b", "a f h c", term_hours=1)
    free, *_ = planned(spec, federation())
    assert {f: s.alias for s in free.segments for f in s.functions} == {"f": "mid", "g": "east", "h": "north"}
    held, *_ = planned(replace(spec, groups=(both,)), federation())
    assert {f: s.alias for s in held.segments for f in s.functions} == {"f": "mid", "g": "east", "h": "east"}
    managed = replace(spec, groups=(both,), links=(*spec.links, lan("m", "f:mgmt")))
    held, *_ = planned(managed, federation())
    assert {f: s.alias for s in held.segments for f in s.functions} == {"f": "mid", "g": "mid", "h": "mid"}
    apart = replace(both, kind=GroupKind.ANTI_AFFINITY)
    assert planned(replace(spec, groups=(apart,)), federation())[0] == free


def back_at_one_place(local: bool, managed: bool = True) -> tuple[Plan, ...] | Infeasible:
    """f and j on one host at MID, the only place that has them, with a g between that is at SIDE; beside a LAN if `managed`."""
    saps = [sap(name, "MID") for name in ("west", "east", "north")]
    ways = [entry(x, y, point(2, 20)) for x, y in combinations(("west", "east", "north", "MID", "SIDE"), 2)]
    offers = [offer("x", "MID"), offer("y", "MID"), offer("z", "SIDE")]
    snap = snapshot(view("mid", saps, ways, offers, local=local))
    pair = Group(id="pair", kind=GroupKind.AFFINITY, scope=GroupScope.HOST, functions=("f", "j"))
    ends = {"a": "mid.west", "b": "mid.east", "c": "mid.north"}
    types = {"f": "x", "g": "z", "j": "y"}
    spec = mesh_spec(ends, types, "a f g j b", "a f c", term_hours=1, groups=(pair,))
    more = (lan("m", "f:mgmt"),) if managed else ()
    return plan(replace(spec, links=(*spec.links, *more)), snap, NOW, None, 1)


def test_only_a_domain_of_our_own_is_one_however_its_lines_go() -> None:
    assert isinstance(back_at_one_place(local=True), tuple)
    assert isinstance(back_at_one_place(local=False, managed=False), tuple), "who has MID sees all of it"
    refused = back_at_one_place(local=False)  # parts of it that a LAN joins may be two segments
    assert isinstance(refused, Infeasible)
    assert [(r.code, r.subject) for r in refused.reasons] == [(ReasonCode.AFFINITY, "pair")]


def test_a_lan_goes_beside_the_lines_between_its_members() -> None:
    spec = replace(TREE, links=(*TREE.links, lan("m", "f:mgmt", "g:mgmt")))
    best, *_ = planned(spec, federation())
    assert best.lans == {"m": (Joint(line="f-g", after=0),)}


def test_a_distance_by_delay_holds_on_every_path_that_has_both_points() -> None:
    near = Distance(id="near", function="g", to="a", max_delay_us=50)
    spec = replace(TREE, distances=(near,))
    best, *_ = planned(spec, federation())
    assert {f: s.alias for s in best.segments for f in s.functions} == {"f": "mid", "g": "mid"}
    parts = {s.alias: s.near["near"] for s in best.segments if s.near}
    assert parts == {"west": dict.fromkeys(["p0"], (16,)), "mid": dict.fromkeys(["p0"], (33,))}
