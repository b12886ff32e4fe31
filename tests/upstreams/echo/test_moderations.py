"""Moderations: nothing is flagged."""

from typing import Any

import pytest

from tests.echoed import tell


@pytest.mark.parametrize(
    ("given", "many"),
    [("a", 1), (["a", "b"], 2), ([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}], 1)],
)
async def test_moderations_flag_nothing(given: Any, many: int) -> None:
    results = (await tell("/moderations", input=given))["results"]
    assert [False] * many == [result["flagged"] for result in results]
    assert [False] * many == [any(result["categories"].values()) for result in results]
