"""Costs are exact, rounded up once, and unknown where something is unknown."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.pricing import Rate, cost

GPT_4O = Rate.per_million(Decimal("2.50"), Decimal(10), Decimal("1.25"))


@pytest.mark.parametrize(
    ("usd", "expected"),
    [
        (("0.10", "0.40", "0.01"), Rate(100_000, 400_000, 10_000)),
        (("0.0375", "0", "0"), Rate(37_500, 0, 0)),
        (("3", "15", None), Rate(3_000_000, 15_000_000, 3_000_000)),
        (("0.0000001", "0", "0"), Rate(1, 0, 0)),
    ],
)
def test_rates_are_pico_dollars_per_token(usd: tuple[str, str, str | None], expected: Rate) -> None:
    asked, written, cached = usd
    rate = Rate.per_million(Decimal(asked), Decimal(written), None if cached is None else Decimal(cached))

    assert expected == rate


@pytest.mark.parametrize(
    ("rate", "tokens", "expected"),
    [
        (GPT_4O, (1200, 300, 1000), 4_750_000),  # 0.00475 USD
        (GPT_4O, (1200, 300, None), 6_000_000),
        (GPT_4O, (0, 0, 0), 0),
        (GPT_4O, (10, 0, 999), 12_500),  # more cached than there were
        (GPT_4O, (10, 0, -5), 25_000),
        (Rate(1, 1, 1), (1, 0, 0), 1),  # a thousandth of a nano-dollar
        (Rate(37_500, 0, 0), (3, 7, 0), 113),  # 112.5
        (Rate(20_000, 0, 0), (8, None, None), 160),  # an embedding reports no output, which is free
    ],
)
def test_a_cost_is_in_nano_dollars_rounded_up(
    rate: Rate, tokens: tuple[int, int | None, int | None], expected: int
) -> None:
    assert expected == cost(rate, *tokens)


@pytest.mark.parametrize(
    ("rate", "tokens"),
    [
        (None, (10, 10, 0)),
        (GPT_4O, (None, 10, 0)),
        (GPT_4O, (10, None, 0)),
        (GPT_4O, (-1, 10, 0)),
        (GPT_4O, (10, -1, 0)),
    ],
)
def test_the_unknown_is_none_and_not_zero(rate: Rate | None, tokens: tuple[int | None, int | None, int | None]) -> None:
    assert cost(rate, *tokens) is None


picos = st.integers(0, 10**9)
counts = st.integers(0, 10**9)


@given(st.builds(Rate, picos, picos, picos), counts, counts, counts)
def test_a_cost_is_the_exact_sum_and_less_than_one_nano_dollar_more(
    rate: Rate, asked: int, written: int, cached: int
) -> None:
    found = min(cached, asked)
    exact = (asked - found) * rate.input + found * rate.cached_input + written * rate.output

    assert 0 <= (cost(rate, asked, written, cached) or 0) * 1000 - exact < 1000
