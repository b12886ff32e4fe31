"""pricing: what a call cost. Pure integer arithmetic: rates in pico-dollars per token, costs in nano-dollars.

A pico-dollar is 10^-12 USD, so that a rate of 0.0375 USD per million tokens is exactly 37,500 of them.
Unknown stays None all the way; it never becomes 0.
"""

import math
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """Pico-dollars per token. Cached input is part of the input, at its own rate."""

    input: int
    output: int
    cached_input: int

    @classmethod
    def per_million(cls, input_usd: Decimal, output_usd: Decimal, cached_input_usd: Decimal | None = None) -> "Rate":
        """A rate from USD per million tokens; cached input costs what input does where nothing else is said."""
        cached = input_usd if cached_input_usd is None else cached_input_usd
        return cls(*(math.ceil(usd * 1_000_000) for usd in (input_usd, output_usd, cached)))


def cost(
    rate: Rate | None, input_tokens: int | None, output_tokens: int | None, cached_tokens: int | None = None
) -> int | None:
    """Nano-dollars, rounded up once; None where the rate or the usage is unknown, or the counts make no sense.

    `cached_tokens` are among `input_tokens`. Output may be unknown where it is free, as embeddings report none.
    """
    if rate is None or input_tokens is None or (output_tokens is None and rate.output):
        return None
    written = output_tokens or 0
    if input_tokens < 0 or written < 0:
        return None
    pico = input_tokens * rate.input + written * rate.output
    if cached_tokens is not None and cached_tokens > 0:
        pico -= min(cached_tokens, input_tokens) * (rate.input - rate.cached_input)
    return -(-pico // 1000)
