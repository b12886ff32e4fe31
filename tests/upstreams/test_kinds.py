"""What a configured upstream becomes."""

import pytest

from relay import config
from relay.config.secret import Secret
from relay.upstream.kinds import build

KEY, VALUE = "a-key-of-an-upstream", "a-value-that-may-be-one"


@pytest.mark.parametrize(
    ("keys", "headers", "expected"),
    [
        ((), {}, ()),
        ((KEY,), {}, (KEY.encode(),)),
        ((KEY, KEY), {"x-secret": VALUE, "x-team": "search"}, (VALUE.encode(), KEY.encode())),
        (("ollama",), {}, ()),
    ],
    ids=["none", "a key", "a header too", "a word where no key is needed"],
)
def test_what_nobody_may_read_is_what_is_long_enough_for_a_secret(
    keys: tuple[str, ...], headers: dict[str, str], expected: tuple[bytes, ...]
) -> None:
    spec = config.Upstream("up", base_url="http://127.0.0.1:1", api_keys=tuple(map(Secret, keys)), headers=headers)

    assert expected == build(spec, config.Queue()).credentials.secrets
