"""Which key serves next: in turn, without those that are out or rest."""

import pytest

from relay.upstream.credentials import Credential, Credentials, fingerprint

NOW = 100.0


def pool(count: int) -> tuple[Credentials, list[Credential]]:
    each = [Credential((), f"key{number}") for number in range(count)]
    return Credentials(each), each


def names(found: Credentials, times: int, model: str = "gpt", now: float = NOW) -> list[object]:
    return [picked and picked.fingerprint for picked in (found.pick(model, now) for _ in range(times))]


def test_keys_take_turns() -> None:
    assert ["key0", "key1", "key2", "key0"] == names(pool(3)[0], 4)


def test_a_key_is_found_by_its_fingerprint() -> None:
    one, two = Credential((), "one"), Credential((), "two")

    assert two is Credentials([one, two]).named("two")
    assert Credentials([one, two]).named("three") is None


def test_a_refused_key_is_out_until_it_is_forgiven() -> None:
    found, (first, second, _) = pool(3)

    found.refuse(first, 401)
    found.refuse(second, 402)

    assert ["key2", "key2"] == names(found, 2)
    assert {"key0": "refused with HTTP 401", "key1": "refused with HTTP 402", "key2": "in use"} == found.states(NOW)
    found.forgive()
    assert {"key0", "key1", "key2"} == set(names(found, 3))


def test_with_all_refused_there_is_none() -> None:
    found, each = pool(2)
    for key in each:
        found.refuse(key, 403)

    assert [None] == names(found, 1)
    assert found.refused
    assert (None, None) == (found.resting("gpt", NOW), found.limited("gpt", NOW))


@pytest.mark.parametrize(("wait", "later"), [(20.0, 120.0), (0.25, 100.25), (None, 101.0)])
def test_a_rate_limited_key_rests_for_that_model_as_long_as_it_is_told(wait: float | None, later: float) -> None:
    found, (first, _) = pool(2)

    first.rest("gpt", NOW, wait)

    assert ["key1", "key1"] == names(found, 2)
    assert {"key0", "key1"} == set(names(found, 2, model="other"))
    assert {"key0", "key1"} == set(names(found, 2, now=later))
    assert {"key0": "resting for gpt", "key1": "in use"} == found.states(NOW)


def test_when_all_rest_the_first_to_come_back_is_told() -> None:
    found, each = pool(2)
    each[0].rest("gpt", NOW, 20)
    each[1].rest("gpt", NOW, 5)

    assert [None] == names(found, 1)
    assert (105.0, 105.0, None) == (
        found.resting("gpt", NOW),
        found.limited("gpt", NOW),
        found.limited("gpt", 105.0),
    )


def test_rests_that_are_over_are_forgotten() -> None:
    key = Credential((), "key")
    for number in range(100):
        key.rest(f"model{number}", NOW + 10 * number, 5)

    assert ["model99"] == list(key.rests)


def test_one_key_alone_always_serves() -> None:
    found, (only,) = pool(1)
    found.refuse(only, 401)
    only.rest("gpt", NOW, 20)

    assert ["key0"] == names(found, 1)
    assert 120.0 == found.limited("gpt", NOW)
    assert {"key0": "resting for gpt"} == found.states(NOW)


def test_a_fingerprint_tells_keys_apart_and_nothing_else() -> None:
    told = {fingerprint(f"sk-{number}") for number in range(100)}

    assert 100 == len(told)
    assert all(len(each) == 8 and "sk" not in each for each in told)
