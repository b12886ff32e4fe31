"""Which targets an asked name leads to, whom to ask by the circumstances, and what a key may ask for."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import sqrt
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from relay.errors import ModelNotAllowed, ModelNotFound
from relay.routing import (
    STRATEGIES,
    Alias,
    Circumstances,
    Dropped,
    Plan,
    Routes,
    Strategy,
    Target,
    drawn,
    fallback,
    matches,
    plan,
    served,
)

CALM = Circumstances()


def to(written: str, weight: int = 1, *tags: str) -> Target:
    upstream, model = written.split("/", 1)
    return Target(upstream, model, weight, frozenset(tags))


def alias(name: str, *targets: str) -> Alias:
    return Alias(name, tuple((to(target),) for target in targets))


def shared(strategy: Strategy, *targets: Target) -> Alias:
    """An alias whose targets are one tier."""
    return Alias("x", (targets,), strategy=strategy)


def names(targets: Iterable[Target]) -> list[str]:
    return [target.name for target in targets]


def chances(count: int) -> Iterator[int]:
    """As random as the caller's, and the same in every run."""
    random = Random(1)  # noqa: S311  nothing is kept secret with it
    return (random.getrandbits(128) for _ in range(count))


ROUTES = Routes.of(
    [
        alias("smart", "openai/gpt-4.1", "azure/gpt-4.1"),
        alias("gpt-*", "openai/*"),
        alias("gpt-4*", "azure/*"),
        alias("meta/llama:8b", "local/meta/llama:8b"),
        alias("gpt-4o", "local/pinned"),
        alias("same", "openai/*"),
        alias("ft:*:acme:*", "tuned/*"),
    ],
    default_model="smart",
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("smart", ["openai/gpt-4.1", "azure/gpt-4.1"]),
        ("gpt-3.5", ["openai/gpt-3.5"]),
        ("gpt-4.1", ["azure/gpt-4.1"]),
        ("gpt-4", ["azure/gpt-4"]),
        ("gpt-4o", ["local/pinned"]),
        ("meta/llama:8b", ["local/meta/llama:8b"]),
        ("same", ["openai/same"]),
        ("ft:gpt:acme:x/y", ["tuned/ft:gpt:acme:x/y"]),
    ],
)
def test_an_asked_name_leads_to_its_targets_in_order(asked: str, expected: list[str]) -> None:
    plan = ROUTES.plan(asked)

    assert expected == [f"{target.upstream}/{target.model}" for target in plan.targets]


def test_a_plan_keeps_weights_and_its_alias() -> None:
    mixed = Alias("mixed", ((to("a/m", 9), to("b/n")),), {"temperature": b"0"}, strategy="weighted")

    assert Plan(mixed, "mixed", (Target("a", "m", 9), Target("b", "n", 1))) == Routes.of([mixed]).plan("mixed")


A, B, C = to("a/m"), to("b/m"), to("c/m")


@pytest.mark.parametrize(
    ("fixed", "given"),
    [
        (True, Alias("x", ((A,), (B,)))),
        (True, Alias("x", ((A, B), (C,)))),
        (True, Alias("x", ((A,), (B,)), strategy="fastest")),
        (True, Alias("x*", ((A,), (B,)))),
        (False, Alias("x", ((A, B), (C,)), strategy="weighted")),
        (False, Alias("x*", ((A, B),), strategy="sticky")),
        (False, Alias("x", ((to("a/m", 1, "eu"),),))),
    ],
)
def test_a_plan_is_fixed_where_nothing_is_to_be_chosen(fixed: bool, given: Alias) -> None:
    found = Routes.of([given]).plan("x")

    assert (given.targets, fixed) == (found.targets, found.fixed)


def test_every_target_of_an_alias_stands_in_the_order_of_its_tiers() -> None:
    assert (A, B, C) == Alias("x", ((A, B), (C,))).targets
    assert (A, C, B) == Alias("x", ((A,), (C, B)), strategy="weighted").targets


def test_an_exact_name_is_planned_once() -> None:
    assert ROUTES.plan("smart") is ROUTES.plan("smart")


def test_the_longest_pattern_is_first_and_equal_ones_keep_their_order() -> None:
    routes = Routes.of([alias("*", "a/*"), alias("x*", "b/*"), alias("*y", "c/*")])

    assert ["x*", "*y", "*"] == [pattern.name for pattern in routes.patterns]
    assert (Target("b", "xy"),) == routes.plan("xy").targets


@pytest.mark.parametrize("asked", ["", "gpt", "Smart", "llama:8b", "ft:acme", "*"])
def test_an_unknown_name_is_refused_with_what_to_do(asked: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        ROUTES.plan(asked)

    assert f"The model {asked!r} does not exist here; GET /v1/models lists the names to ask for." == str(refused.value)
    assert "model" == refused.value.param


def test_a_refusal_repeats_no_more_than_a_hundred_characters_of_a_name() -> None:
    with pytest.raises(ModelNotFound) as refused:
        ROUTES.plan("x" * 1_000_000)

    assert len(refused.value.message) < 250


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [("smart", ("smart",)), ("smart", ("s*",)), ("gpt-4.1", ("fast", "gpt-*")), ("gpt-4o", ("*",)), ("smart", None)],
)
def test_a_key_may_ask_for_what_its_list_names(asked: str, allowed: tuple[str, ...] | None) -> None:
    assert ROUTES.plan(asked) == ROUTES.plan(asked, allowed)


@pytest.mark.parametrize("asked", ["smart", "gpt-4.1", "no-such-model"])
def test_a_key_learns_nothing_of_other_names(asked: str) -> None:
    with pytest.raises(ModelNotAllowed) as refused:
        ROUTES.plan(asked, ("gpt-3*", "same"))

    assert f"The model {asked!r} is not allowed for this key; ask for one of: gpt-3*, same." == str(refused.value)


def test_the_asked_name_counts_and_not_the_target() -> None:
    with pytest.raises(ModelNotAllowed):
        ROUTES.plan("smart", ("gpt-4.1",))


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, ["smart", "meta/llama:8b", "gpt-4o", "same"]),
        (("gpt-*", "smart"), ["smart", "gpt-4o"]),
        (("gpt-3.5",), []),
        ((), []),
    ],
)
def test_names_are_the_exact_ones_that_a_key_may_use(allowed: tuple[str, ...] | None, expected: list[str]) -> None:
    assert expected == ROUTES.names(allowed)


@given(pattern=st.text("ab*", max_size=8), name=st.text("ab", max_size=12))
def test_a_star_stands_for_any_text(pattern: str, name: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))

    assert (re.fullmatch(expression, name) is not None) == matches(pattern, name)


def test_a_fixed_plan_leaves_out_who_is_switched_off() -> None:
    given = Alias("x", ((A,), (to("off/m"),), (B,)))
    routes = Routes.of([given], off={"off": "env:KEY is not set", "other": "too"})

    assert Plan(given, "x", (A, B), (Dropped("off/m", "env:KEY is not set"),), fixed=True) == routes.plan("x")
    assert routes.plan("x") is routes.plan("x")
    assert {"off": "env:KEY is not set", "other": "too"} == routes.off


def test_a_fixed_plan_of_nobody_else_asks_who_is_switched_off() -> None:
    given = Alias("x", ((A,), (B,)))

    assert Plan(given, "x", (A, B), fixed=True) == Routes.of([given], off={"a": "off", "b": "off"}).plan("x")


def test_a_pattern_with_a_fallback_is_filled_in_and_leaves_out_who_is_switched_off() -> None:
    given = alias("gpt-*", "a/*", "b/pinned", "c/*")

    assert ["a/gpt-5", "b/pinned", "c/gpt-5"] == names(Routes.of([given]).plan("gpt-5").targets)
    found = Routes.of([given], off={"a": "off"}).plan("gpt-5")
    assert Plan(given, "gpt-5", (to("b/pinned"), to("c/gpt-5")), (Dropped("a/gpt-5", "off"),), fixed=True) == found


def test_a_plan_to_be_chosen_from_keeps_who_is_switched_off() -> None:
    routes = Routes.of([shared("weighted", A, B)], off={"a": "off"})

    assert Plan(routes.exact["x"], "x", (A, B)) == routes.plan("x")
    assert (B,) == plan(routes.exact["x"], "x", Circumstances(unusable=routes.off)).targets


def test_a_target_that_stands_twice_is_asked_once() -> None:
    given = alias("gpt-*", "a/*", "b/*", "a/gpt-5", "c/*")
    twice = Alias("x", ((A, B, A), (B, C)), strategy="weighted")

    assert ["a/gpt-5", "b/gpt-5", "c/gpt-5"] == names(Routes.of([given]).plan("gpt-5").targets)
    assert ["a/gpt-5", "b/gpt-5"] == names(Routes.of([given], off={"c": "off"}).plan("gpt-5").targets)
    assert (A, B, C) == plan(twice, "x", CALM).targets


LAST = to("z/m")


@pytest.mark.parametrize(
    ("strategy", "tier", "circumstances", "expected"),
    [
        ("order", (B, A, C), CALM, "bac"),
        ("order", (B, A, C), Circumstances(chance=2**128 - 1, busy={"b": 9}, first_byte={"b/m": 9.0}), "bac"),
        ("weighted", (A, B, C), CALM, "abc"),
        ("weighted", (A, B, C), Circumstances(chance=2 + 3 * 1), "cba"),
        ("weighted", (to("a/m", 8), to("b/m", 2)), Circumstances(chance=7), "ab"),
        ("weighted", (to("a/m", 8), to("b/m", 2)), Circumstances(chance=8), "ba"),
        ("least_busy", (A, B, C), Circumstances(busy={"a": 2, "b": 1}), "cba"),
        ("least_busy", (to("a/m", 4), B), Circumstances(chance=4, busy={"a": 3, "b": 1}), "ab"),
        ("least_busy", (to("a/m", 4), B), Circumstances(chance=4, busy={"a": 4, "b": 1}), "ba"),
        ("least_busy", (to("a/m", 4), B), Circumstances(chance=0, busy={"a": 4, "b": 1}), "ab"),
        ("fastest", (A, B), Circumstances(first_byte={"a/m": 300.0, "b/m": 200.0}), "ba"),
        ("fastest", (A, B), Circumstances(first_byte={"a/m": 300.0, "b/m": 200.0}, busy={"b": 1}), "ab"),
        ("fastest", (A, B), Circumstances(first_byte={"a/m": 300.0}), "ba"),
        ("fastest", (A, B), Circumstances(first_byte={"a/m": 0.2}), "ba"),
        ("fastest", (A, B), Circumstances(first_byte={"a/m": 300.0}, busy={"b": 400}), "ab"),
        ("fastest", (A, B, C), Circumstances(first_byte={"a/m": 3.0, "b/m": 2.0, "c/m": 1.5}), "bac"),
        ("fastest", (A, B, C, to("d/m")), Circumstances(first_byte={"c/m": 9.0, "d/m": 8.0}), "abdc"),
        ("sticky", (A, B, C), Circumstances(chance=2 + 3 * 1), "cba"),
    ],
)
def test_a_strategy_orders_the_targets_of_a_tier_and_no_others(
    strategy: Strategy, tier: tuple[Target, ...], circumstances: Circumstances, expected: str
) -> None:
    given = Alias("x", (tier, (LAST,)), strategy=strategy)

    assert f"{expected}z" == "".join(target.upstream for target in plan(given, "x", circumstances).targets)


def test_every_strategy_that_can_be_named_is_there() -> None:
    assert set(get_args(Strategy)) == STRATEGIES.keys()


FAST, EU, BOTH = to("a/m"), to("b/m", 1, "eu"), to("c/m", 1, "eu", "fast")


@pytest.mark.parametrize(
    ("tags", "expected", "dropped"),
    [
        ("", "a", {"b/m": "serves only keys with the tag eu", "c/m": "serves only keys with the tags eu, fast"}),
        ("eu", "ab", {"c/m": "serves only keys with the tag fast"}),
        ("fast", "a", {"b/m": "serves only keys with the tag eu", "c/m": "serves only keys with the tag eu"}),
        ("eu fast more", "abc", {}),
    ],
)
def test_a_target_with_tags_serves_only_callers_with_all_of_them(
    tags: str, expected: str, dropped: dict[str, str]
) -> None:
    found = plan(Alias("x", ((FAST,), (EU,), (BOTH,))), "x", Circumstances(frozenset(tags.split())))

    assert expected == "".join(target.upstream for target in found.targets)
    assert tuple(Dropped(*each) for each in dropped.items()) == found.dropped


def test_a_wildcard_keeps_its_weight_and_tags() -> None:
    given = Alias("*", ((to("a/*", 3, "eu"), B),), strategy="weighted")

    assert (to("a/m", 3, "eu"), B) == Routes.of([given]).plan("m").targets
    assert (B,) == plan(given, "m", CALM).targets


def test_where_no_target_serves_the_callers_tags_the_model_is_refused() -> None:
    given = Alias("x", ((EU,), (BOTH,)))

    with pytest.raises(ModelNotAllowed) as refused:
        served(plan(given, "x", Circumstances(frozenset({"fast"}), ill={"b/m": "ill"})))

    assert "The model 'x' is not allowed for this key: it is served only to keys with tags that this one lacks." == str(
        refused.value
    )
    assert "model" == refused.value.param


def test_a_target_may_serve_either_of_two_tags_where_it_stands_twice() -> None:
    given = Alias("x", ((to("a/m", 1, "eu"),), (B,), (to("a/m", 1, "us"),)))

    assert ["a/m", "b/m"] == names(plan(given, "x", Circumstances(frozenset({"eu", "us"}))).targets)
    us = plan(given, "x", Circumstances(frozenset({"us"})))
    assert (["b/m", "a/m"], ()) == (names(us.targets), us.dropped)


@pytest.mark.parametrize(
    ("unusable", "ill", "expected", "dropped"),
    [
        ({}, {}, "abc", {}),
        ({"a": "off"}, {}, "bc", {"a/m": "off"}),
        ({}, {"a/m": "rests"}, "bc", {"a/m": "rests"}),
        ({"b": "off"}, {"c/m": "rests", "x/m": "rests"}, "a", {"b/m": "off", "c/m": "rests"}),
        ({"a": "off"}, {"a/m": "rests"}, "bc", {"a/m": "off"}),
        ({"a": "", "b": "off"}, {}, "c", {"a/m": "", "b/m": "off"}),
        # Nobody else is left: first those who are ill, then those who cannot be asked.
        ({}, {"a/m": "rests", "b/m": "rests", "c/m": "rests"}, "abc", {}),
        ({"a": "off"}, {"b/m": "rests", "c/m": "rests"}, "bc", {"a/m": "off"}),
        ({"a": "off", "b": "off", "c": "off"}, {}, "abc", {}),
        ({"a": "off", "b": "off", "c": "off"}, {"a/m": "rests"}, "bc", {"a/m": "rests"}),
    ],
)
def test_who_cannot_be_asked_or_is_ill_is_dropped_while_another_is_left(
    unusable: dict[str, str], ill: dict[str, str], expected: str, dropped: dict[str, str]
) -> None:
    found = plan(alias("x", "a/m", "b/m", "c/m"), "x", Circumstances(unusable=unusable, ill=ill))

    assert expected == "".join(target.upstream for target in found.targets)
    assert tuple(Dropped(*each) for each in dropped.items()) == found.dropped


def test_a_wildcard_is_filled_in_before_anything_is_said_of_its_targets() -> None:
    given = replace(alias("gpt-*", "a/*", "b/*"), strategy="sticky")

    found = plan(given, "gpt-5", Circumstances(session=b"s", ill={"a/gpt-5": "rests", "b/gpt-4": "rests"}))

    assert ((to("b/gpt-5"),), (Dropped("a/gpt-5", "rests"),)) == (found.targets, found.dropped)


def test_those_who_stand_by_for_a_refusal_are_asked_in_order() -> None:
    given = Alias("gpt-*", ((A,),), fallback={"context_window": (to("big/*"), B, EU)}, strategy="weighted")

    found = fallback(given, "context_window", "gpt-5", Circumstances(chance=5, ill={"b/m": "rests"}))

    assert ["a/m"] == names(plan(given, "gpt-5", CALM).targets)
    assert Plan(given, "gpt-5", (to("big/gpt-5"),), (Dropped("b/m", "rests"),)) == found


def test_of_those_who_stand_by_who_cannot_be_asked_is_dropped_even_where_nobody_is_left() -> None:
    abroad = replace(EU, upstream="c")
    given = Alias("x", ((A,),), fallback={"context_window": (B, abroad, A)})
    off = {"b": "is switched off", "a": "all its keys were refused"}

    found = fallback(given, "context_window", "x", Circumstances(unusable=off))

    assert () == found.targets
    assert {B.name: off["b"], A.name: off["a"], abroad.name: "serves only keys with the tag eu"} == {
        each.target: each.reason for each in found.dropped
    }


def test_a_plan_tells_of_its_fallbacks() -> None:
    given = Alias("x", ((A,),), fallback={"context_window": (B, replace(EU, upstream="c"))})
    alone = plan(given, "x", CALM)

    found = alone.falling_back("context_window", fallback(given, "context_window", "x", CALM))

    assert b"" == alone.told
    assert {
        "strategy": "order",
        "targets": [A.name],
        "dropped": [],
        "fallback": {
            "context_window": {
                "targets": [B.name],
                "dropped": [{"target": "c/m", "reason": "serves only keys with the tag eu"}],
            }
        },
    } == json.loads(found.told)


@pytest.mark.parametrize("standing_by", [(), (EU,)])
def test_where_nobody_stands_by_for_the_caller_nobody_is_asked(standing_by: tuple[Target, ...]) -> None:
    given = Alias("x", ((A,),), fallback={"content_policy": standing_by})

    assert () == fallback(given, "content_policy", "x", CALM).targets


MIXED = (to("a/m", 6), to("b/m", 3), to("c/m", 1))
DRAWS = 4000


def near(share: float, count: int) -> bool:
    """Within four standard deviations of what so many draws come to."""
    return abs(count - share * DRAWS) < 4 * sqrt(share * (1 - share) * DRAWS)


def test_weights_are_shares_and_who_comes_next_is_drawn_from_the_rest() -> None:
    orders = Counter(
        "".join(target.upstream for target in plan(shared("weighted", *MIXED), "x", Circumstances(chance=each)).targets)
        for each in chances(DRAWS)
    )

    expected = {
        "abc": 0.6 * 3 / 4,
        "acb": 0.6 * 1 / 4,
        "bac": 0.3 * 6 / 7,
        "bca": 0.3 * 1 / 7,
        "cab": 0.1 * 6 / 9,
        "cba": 0.1 * 3 / 9,
    }
    assert expected.keys() == orders.keys()
    assert all(near(share, orders[order]) for order, share in expected.items()), orders


def conversations(*targets: Target) -> list[str]:
    given = shared("sticky", *targets)
    return [plan(given, "x", Circumstances(session=b"%d" % each)).targets[0].name for each in range(DRAWS)]


def test_conversations_are_shared_by_weight() -> None:
    found = Counter(conversations(*MIXED))

    assert all(near(target.weight / 10, found[target.name]) for target in MIXED), found


def test_more_weight_for_one_target_moves_conversations_only_to_it() -> None:
    before, after = conversations(*MIXED), conversations(*MIXED[:2], to("c/m", 5))

    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert {"c/m"} == set(moved)


def test_the_fastest_is_drawn_as_a_pair_so_that_not_everybody_asks_the_same_one() -> None:
    given = shared("fastest", A, B, C)
    known = {"a/m": 1.0, "b/m": 2.0, "c/m": 3.0}

    first = Counter(
        plan(given, "x", Circumstances(chance=each, first_byte=known)).targets[0].name for each in chances(DRAWS)
    )

    assert {"a/m", "b/m"} == first.keys()
    assert near(2 / 3, first["a/m"]), first


texts = st.sampled_from("abcd")
targets = st.builds(Target, texts, st.sampled_from("m*"), st.integers(1, 9), st.frozensets(st.sampled_from("tu")))
tiers = st.lists(st.lists(targets, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4).map(tuple)
aliases = st.builds(
    Alias, st.just("x"), tiers, strategy=st.sampled_from(sorted(STRATEGIES)), response_model=st.just("alias")
)
found_names = st.builds("{}/{}".format, texts, st.sampled_from("mx"))
circumstances = st.builds(
    Circumstances,
    tags=st.just(frozenset("tu")) | st.frozensets(st.sampled_from("tu")),
    chance=st.integers(0, 2**128 - 1),
    session=st.binary(max_size=2),
    unusable=st.dictionaries(texts, st.just("off")),
    ill=st.dictionaries(found_names, st.just("rests")),
    busy=st.dictionaries(texts, st.integers(0, 9)),
    first_byte=st.dictionaries(found_names, st.floats(0, 1e6)),
)


@given(given=aliases, now=circumstances)
def test_a_plan_accounts_for_every_target_once_and_is_empty_for_nobody_alone(given: Alias, now: Circumstances) -> None:
    allowed = {each for each in given.targets if each.tags <= now.tags}
    found = plan(given, "x", now)

    everybody = [*names(found.targets), *(each.target for each in found.dropped)]
    assert sorted({f"{each.upstream}/{each.model.replace('*', 'x')}" for each in given.targets}) == sorted(everybody)
    assert bool(allowed) == bool(found.targets)
    assert all(each.tags <= now.tags for each in found.targets)
    fit = [each for each in allowed if each.upstream not in now.unusable]
    assert not fit or not {each.upstream for each in found.targets} & now.unusable.keys()
    assert found == plan(given, "x", now)


@given(given=aliases, now=circumstances)
def test_tiers_are_asked_in_order_whatever_the_strategy(given: Alias, now: Circumstances) -> None:
    distinct = tuple(
        tuple(Target(each.upstream, f"{row}.{column}") for column, each in enumerate(tier))
        for row, tier in enumerate(given.tiers)
    )

    found = plan(replace(given, tiers=distinct), "x", now)

    rows = [each.model.partition(".")[0] for each in found.targets]
    assert sorted(rows) == rows


@given(given=st.lists(targets, max_size=5), now=circumstances)
def test_those_that_are_equally_busy_are_drawn(given: list[Target], now: Circumstances) -> None:
    by_chance = STRATEGIES["weighted"](given, now)

    def load(target: Target) -> float:
        return now.busy.get(target.upstream, 0) / target.weight

    assert sorted(by_chance, key=load) == STRATEGIES["least_busy"](given, now)


untagged = st.builds(Target, texts, st.sampled_from("mn"), st.integers(1, 9))
open_tiers = st.lists(untagged, min_size=1, max_size=5, unique_by=lambda target: target.name).map(
    lambda made: (tuple(made),)
)
open_aliases = st.builds(Alias, st.just("x"), open_tiers, strategy=st.sampled_from(sorted(STRATEGIES)))


@given(given=open_aliases, now=circumstances)
def test_in_peace_a_plan_is_drawn_from_those_that_were_made(given: Alias, now: Circumstances) -> None:
    """The same that would be made anew, whatever was drawn before."""
    calm = changed(now, ill={}, unusable={})
    known = Routes.of([given]).plan(given.name)
    assert given.is_open
    for chance in (*range(5), now.chance):
        at_present = changed(calm, chance=chance)
        assert plan(given, given.name, at_present) == drawn(known, at_present)
        assert plan(given, given.name, at_present).told == drawn(known, at_present).told


def test_orders_without_end_are_not_all_remembered() -> None:
    given = shared("weighted", *(to(f"up/{number}") for number in range(6)))
    known = Routes.of([given]).plan(given.name)

    found = {drawn(known, Circumstances(chance=chance)).targets for chance in chances(2000)}

    assert len(found) > 300
    assert len(known.orders) <= 128


OPEN: dict[str, tuple[Alias, bool]] = {
    "a tier": (shared("weighted", to("a/m"), to("b/m")), True),
    "two tiers": (Alias("x", ((to("a/m"), to("b/m")), (to("c/m"),)), strategy="weighted"), False),
    "a tag": (shared("weighted", to("a/m", 1, "eu"), to("b/m")), False),
    "one twice": (shared("weighted", to("a/m"), to("a/m", 3)), False),
    "by the asked name": (shared("weighted", to("a/*"), to("b/m")), False),
}


@pytest.mark.parametrize("case", OPEN)
def test_what_an_open_alias_is(case: str) -> None:
    given, is_open = OPEN[case]

    assert is_open == given.is_open


@given(session=st.binary(min_size=1), count=st.integers(2, 6), data=st.data())
def test_a_lost_target_moves_only_its_own_conversations(session: bytes, count: int, data: st.DataObject) -> None:
    given = shared("sticky", *(to(f"u{number}/m", number + 1) for number in range(count)))
    before = plan(given, "x", Circumstances(session=session)).targets
    lost = data.draw(st.sampled_from(before))

    after = plan(given, "x", Circumstances(session=session, ill={lost.name: "rests"}, chance=data.draw(st.integers(0))))

    assert tuple(each for each in before if each != lost) == after.targets
