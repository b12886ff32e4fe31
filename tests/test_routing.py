"""Which targets an asked name leads to, and what a key may ask for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ModelNotAllowed, ModelNotFound
from relay.routing import Alias, Plan, Routes, Target, matches


def alias(name: str, *targets: str) -> Alias:
    pairs = (target.split("/", 1) for target in targets)
    return Alias(name, tuple(Target(upstream, model) for upstream, model in pairs))


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
    mixed = Alias("mixed", (Target("a", "m", 9), Target("b", "n")), set={"temperature": b"0"})

    assert Plan(mixed, (Target("a", "m", 9), Target("b", "n", 1))) == Routes.of([mixed]).plan("mixed")


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
