"""When a target falls ill, who asks it while it is, and how it becomes well again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.health import FADES, KNOWN, Health, Illness, Policy, Pulse, Vital, after, fallen, probed
from relay.routing import Alias, Circumstances, Strategy, Target, plan

POLICY = Policy(failures=3, error_rate=0.5, cooldown=10.0, first_byte=2.0)
RESTING = Illness("broken", 110.0, False, 10.0)
PROBING = Illness("broken", 120.0, True, 10.0)


@pytest.mark.parametrize(
    ("pulse", "failure", "reason"),
    [
        (Pulse(), "reset", None),
        (Pulse(failures=2, seen=9, error_rate=0.9), "reset", None),
        (Pulse(failures=3, seen=3), "reset", "3 failures in a row, the last: reset"),
        (Pulse(failures=1, seen=10, error_rate=0.5), "reset", None),
        (Pulse(failures=1, seen=10, error_rate=0.51), "reset", "51% of its last requests failed, the last: reset"),
        (Pulse(seen=10, error_rate=0.9, mean_ms=2000.0, timed=10), None, None),
        (Pulse(seen=4, mean_ms=2100.0, timed=4), None, None),
        (Pulse(seen=5, mean_ms=2100.0, timed=5), None, "its first bytes take 2.1 s"),
    ],
)
def test_a_target_falls_ill(pulse: Pulse, failure: str | None, reason: str | None) -> None:
    expected = Illness(reason, 110.0, False, 10.0) if reason else None

    assert expected == fallen(pulse, failure, POLICY, 100.0)


def test_without_a_bound_no_first_byte_is_too_late() -> None:
    assert fallen(Pulse(mean_ms=1e9, timed=50), None, Policy(), 0.0) is None


@pytest.mark.parametrize(
    ("illness", "now", "expected"),
    [
        (RESTING, 109.9, None),
        (RESTING, 110.0, Illness("broken", 120.0, True, 10.0)),
        (RESTING, 500.0, Illness("broken", 510.0, True, 10.0)),
        (PROBING, 119.9, None),
        (PROBING, 120.0, Illness("broken", 130.0, True, 10.0)),
    ],
)
def test_one_request_probes_when_the_rest_is_over_or_the_last_probe_is_lost(
    illness: Illness, now: float, expected: Illness | None
) -> None:
    assert expected == probed(illness, now)


@pytest.mark.parametrize(
    ("illness", "failure", "now", "expected"),
    [
        (PROBING, None, 112.0, None),
        (PROBING, None, 500.0, None),
        (PROBING, "reset", 112.0, Illness("a probe failed: reset", 132.0, False, 20.0)),
        (Illness("", 190.0, True, 40.0), "reset", 112.0, Illness("a probe failed: reset", 192.0, False, 80.0)),
        (Illness("", 190.0, True, 80.0), "reset", 112.0, Illness("a probe failed: reset", 192.0, False, 80.0)),
        (RESTING, "reset", 105.0, RESTING),
        (RESTING, "reset", 115.0, RESTING),
        (RESTING, None, 105.0, Illness("broken", 105.0, False, 10.0)),
        (RESTING, None, 115.0, RESTING),
    ],
)
def test_an_outcome_changes_an_illness(
    illness: Illness, failure: str | None, now: float, expected: Illness | None
) -> None:
    assert expected == after(illness, failure, POLICY, now)


def ill(health: Health, name: str = "a/m", now: float = 100.0) -> Health:
    for _ in range(health.policy.failures):
        health.failed(name, "reset", now)
    return health


def test_a_passed_request_ends_a_row_of_failures() -> None:
    health = Health(POLICY)
    for _ in range(2):
        health.failed("a/m", "reset", 1.0)
        health.failed("a/m", "reset", 1.0)
        health.passed("a/m", 5.0, 1.0)

    assert {} == dict(health.ill)


def test_two_of_three_failures_are_too_many_without_a_row_of_them() -> None:
    health = Health(POLICY)
    count = 0
    while not health.ill:
        count += 1
        if count % 3:
            health.failed("a/m", "503", 1.0)
        else:
            health.passed("a/m", 5.0, 1.0)
        assert count < 30

    assert count >= 10
    assert "50% of its last requests failed, the last: 503" == health.ill["a/m"].reason


def test_one_failure_of_three_is_not() -> None:
    health = Health(POLICY)
    for _ in range(100):
        health.failed("a/m", "503", 1.0)
        health.passed("a/m", 5.0, 1.0)
        health.passed("a/m", 5.0, 1.0)

    assert {} == dict(health.ill)


def test_a_target_that_begins_too_late_rests_and_a_late_probe_does_not_mend_it() -> None:
    health = Health(POLICY)
    for _ in range(5):
        assert {} == health.resting(100.0)
        health.passed("a/m", 2001.0, 100.0)
    assert {"a/m": "rests for 10 s more: its first bytes take 2.0 s"} == health.resting(100.0)

    assert health.probes("a/m", 110.0)
    health.passed("a/m", 3000.0, 113.0)
    assert {"a/m": "rests for 20 s more: a probe failed: its first byte took 3.0 s"} == health.resting(113.0)

    assert health.probes("a/m", 133.0)
    health.passed("a/m", 1000.0, 134.0)
    assert {"a/m": Vital("well", 0, 0.0, 1000.0)} == health.vitals()


def test_one_late_answer_of_many_makes_nobody_ill_and_a_row_of_them_does() -> None:
    health = Health(POLICY)
    for _ in range(40):
        health.passed("a/m", 5.0, 100.0)
    health.passed("a/m", 15_000.0, 100.0)
    assert {} == dict(health.ill)

    for _ in range(4):
        health.passed("a/m", 5000.0, 100.0)
    assert ["a/m"] == list(health.ill)


def test_an_ill_target_rests_is_probed_once_and_is_well_again() -> None:
    health = ill(Health(POLICY))
    reason = "3 failures in a row, the last: reset"
    assert {"a/m": f"rests for 10 s more: {reason}"} == health.resting(100.0)
    assert {"a/m": f"rests for 1 s more: {reason}"} == health.resting(109.5)
    assert not health.probes("a/m", 109.5)
    assert {} == health.resting(110.0)

    assert health.probes("a/m", 110.0)
    assert {"a/m": f"is being probed by another request: {reason}"} == health.resting(119.0)
    assert not health.probes("a/m", 119.0)

    health.passed("a/m", 7.0, 119.5)
    assert ({}, {}) == (dict(health.ill), health.resting(119.5))
    assert {"a/m": Vital("well", 0, 0.0, 7.0)} == health.vitals()
    assert health.probes("a/m", 119.5) is None


def test_a_probe_whose_outcome_never_comes_makes_room_for_another() -> None:
    health = ill(Health(POLICY))

    assert [True, False, True] == [health.probes("a/m", now) is not None for now in (110.0, 119.9, 120.0)]


def test_a_probe_that_was_given_up_makes_room_for_the_next_at_once() -> None:
    health = ill(Health(POLICY))
    probe = health.probes("a/m", 110.0)
    assert probe is not None
    health.unproven("a/m", probe, 111.0)

    assert ("resting", {}) == (health.vitals()["a/m"].state, health.resting(111.0))
    assert health.probes("a/m", 111.0)


@pytest.mark.parametrize("meanwhile", ["passed", "failed", "sent away", "probed by another"])
def test_a_probe_that_has_its_outcome_or_is_another_ones_is_not_given_up(meanwhile: str) -> None:
    health = ill(Health(POLICY))
    probe = health.probes("a/m", 110.0)
    assert probe is not None
    if meanwhile == "passed":
        health.passed("a/m", 5.0, 120.0)
    elif meanwhile == "failed":
        health.failed("a/m", "reset", 120.0)
    elif meanwhile == "sent away":
        health.rests("a/m", "rate limited", 5.0, 120.0)
    else:
        assert health.probes("a/m", 120.0)
    before = health.ill
    health.unproven("a/m", probe, 121.0)

    assert before is health.ill


def test_failures_of_the_last_resort_do_not_prolong_a_rest() -> None:
    health = ill(Health(POLICY))
    health.failed("a/m", "reset", 109.0)

    assert {} == health.resting(110.0)


def test_a_sign_of_life_ends_the_rest_but_only_a_probe_makes_well() -> None:
    health = ill(Health(POLICY))
    health.passed("a/m", 5.0, 103.0)
    assert {} == health.resting(103.0)
    assert "resting" == health.vitals()["a/m"].state

    assert health.probes("a/m", 104.0)
    health.passed("a/m", 5.0, 105.0)
    assert "well" == health.vitals()["a/m"].state


def test_a_target_that_was_healed_starts_with_a_clean_sheet() -> None:
    health = ill(Health(Policy(failures=20, error_rate=0.5)))
    assert health.probes("a/m", 200.0)
    health.passed("a/m", 5.0, 200.0)

    health.failed("a/m", "reset", 201.0)
    assert {} == dict(health.ill)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1.0, "rests for 8 s more: 3 failures in a row, the last: reset"), (30.0, "rests for 30 s more: rate limited")],
)
def test_who_is_ill_rests_for_no_less_than_it_had_to(seconds: float, told: str) -> None:
    health = ill(Health(POLICY))
    health.rests("a/m", "rate limited", seconds, 102.0)

    assert {"a/m": told} == health.resting(102.0)


def test_a_probe_that_is_sent_away_leaves_the_next_rest_as_long_as_it_was_going_to_be() -> None:
    health = ill(Health(POLICY))
    for now in (110.0, 112.0):
        assert health.probes("a/m", now)
        health.rests("a/m", "rate limited", 1.0, now)
        assert {"a/m": "rests for 1 s more: rate limited"} == health.resting(now)
    assert health.probes("a/m", 114.0)
    health.failed("a/m", "reset", 114.0)

    assert {"a/m": "rests for 20 s more: a probe failed: reset"} == health.resting(114.0)


def test_what_a_new_configuration_may_have_mended_is_forgotten() -> None:
    health = ill(ill(Health(POLICY)), "b/m")
    health.passed("a/well", 5.0, 100.0)
    health.rests("c/m", "its key was refused", 60.0, 100.0, mends=True)
    health.rests("d/m", "rate limited", 60.0, 100.0)

    health.mend({"a"})

    assert ["b/m", "d/m"] == list(health.ill)
    assert ["b/m", "c/m", "d/m"] == list(health.vitals())


@pytest.mark.parametrize(
    ("answers", "seconds", "soon"),
    [([], 0.9, True), ([], 1.0, False), ([20.0], 0.9, True), ([800.0], 1.5, True), ([800.0], 1.6, False)],
)
def test_how_long_a_silence_says_nothing(answers: list[float], seconds: float, soon: bool) -> None:
    health = Health(Policy())
    for answer in answers:
        health.passed("a/m", answer, 100.0)

    assert soon == health.is_soon("a/m", seconds)


def test_the_ill_are_told_apart() -> None:
    health = ill(ill(Health(POLICY), "b/m", 95.0))
    health.passed("c/m", 5.0, 100.0)

    assert ["b/m", "a/m"] == list(health.ill)
    assert ["a/m"] == list(health.resting(106.0))
    assert health.probes("b/m", 106.0)
    states = {name: vital.state for name, vital in health.vitals().items()}
    assert {"b/m": "probing", "a/m": "resting", "c/m": "well"} == states
    vital = health.vitals()["a/m"]
    assert Vital("resting", 3, vital.error_rate, 0.0, 110.0, "3 failures in a row, the last: reset") == vital
    assert pytest.approx(0.271) == vital.error_rate


def test_a_snapshot_is_never_changed() -> None:
    health = Health(POLICY)
    empty = health.ill
    one = ill(health).ill
    health.probes("a/m", 110.0)

    assert ({}, ["a/m"], False) == (dict(empty), list(one), one["a/m"].probing)
    with pytest.raises(TypeError):
        one["b/m"] = RESTING  # type: ignore[index]  # that this cannot be done is what is tested


def test_what_changes_nothing_makes_no_new_snapshot() -> None:
    health = ill(Health(POLICY))
    before = health.ill
    health.passed("b/m", 5.0, 101.0)
    health.failed("b/m", "reset", 101.0)
    health.failed("a/m", "reset", 101.0)
    health.probes("a/m", 101.0)

    assert before is health.ill


@pytest.mark.parametrize(
    ("answers", "expected"),
    [([100.0], 100.0), ([100.0, 900.0], 900.0), ([900.0, 100.0], 820.0), ([900.0, 100.0, 820.0], 820.0)],
)
def test_a_first_byte_is_up_at_once_and_down_step_by_step(answers: list[float], expected: float) -> None:
    health = Health(Policy())
    for answer in answers:
        health.passed("a/m", answer, 50.0)

    assert {"a/m": pytest.approx(expected)} == health.first_bytes(50.0)


def test_a_first_byte_fades_while_nobody_asks_and_is_unknown_to_who_never_answered() -> None:
    health = Health(Policy())
    health.passed("a/m", 100.0, 50.0)
    health.failed("b/m", "reset", 50.0)

    assert {"a/m": pytest.approx(50.0)} == health.first_bytes(50.0 + FADES)


def test_another_policy_holds_from_the_next_outcome() -> None:
    health = Health(POLICY)
    health.failed("a/m", "reset", 1.0)
    health.policy = Policy(failures=2)
    assert {} == dict(health.ill)

    health.failed("a/m", "reset", 1.0)
    assert ["a/m"] == list(health.ill)


def test_of_names_without_end_the_oldest_are_forgotten_and_the_ill_last() -> None:
    health = ill(Health(POLICY), "ill/m")
    for number in range(KNOWN + 5):
        health.passed(f"a/{number}", 1.0, 1.0)
    assert KNOWN == len(health.vitals())
    assert ["ill/m", "a/6"] == list(health.vitals())[:2]

    for number in range(KNOWN):
        ill(health, f"b/{number}")
    assert [f"b/{number}" for number in range(KNOWN)] == list(health.ill) == list(health.vitals())


NAMES = ("a/m", "b/m", "c/m")
TARGETS = tuple(Target(name[0], "m") for name in NAMES)


@dataclass(eq=False)
class Asked:
    """A request that is on its way to a target, from this moment on; and whether it probes."""

    name: str
    since: float
    probe: Illness | None


@dataclass
class Seen:
    """What somebody was handed, and what it said then."""

    snapshot: Mapping[str, Illness]
    copy: dict[str, Illness] = field(init=False)

    def __post_init__(self) -> None:
        self.copy = dict(self.snapshot)


class Traffic(RuleBasedStateMachine):
    """Requests that plan, ask, pass and fail at random, at any time, some of them after ages or never."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.health = Health(POLICY)
        self.running: list[Asked] = []
        self.snapshots: list[Seen] = []

    @rule(
        chance=st.integers(0, 2**128 - 1),
        strategy=st.sampled_from(["order", "weighted", "least_busy", "fastest", "sticky"]),
        flat=st.booleans(),
        session=st.binary(max_size=1),
    )
    def ask(self, chance: int, strategy: Strategy, flat: bool, session: bytes) -> None:
        """As a request does: never an empty plan, and whoever rests is asked only where there is nobody else."""
        alias = Alias(
            "x", tuple((each,) for each in TARGETS) if flat else (TARGETS[:2], TARGETS[2:]), strategy=strategy
        )
        resting = self.health.resting(self.now)
        first_byte = self.health.first_bytes(self.now)
        found = plan(alias, "x", Circumstances(chance=chance, session=session, ill=resting, first_byte=first_byte))

        name = found.targets[0].name
        was_ill, may = name in self.health.ill, name not in resting
        probe = self.health.probes(name, self.now)
        assert (probe is not None) == (was_ill and may)
        assert may or resting.keys() == set(NAMES)
        assert {each.target for each in found.dropped} == (resting.keys() if may else set())
        if was_ill and may:
            probing = [each for each in self.running if each.probe and each.name == name]
            assert all(self.now >= each.since + POLICY.cooldown for each in probing)
            self.running = [each for each in self.running if each not in probing]  # they are given up
            assert name in self.health.resting(self.now)
        self.running.append(Asked(name, self.now, probe))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), first_byte_ms=st.floats(1.0, 4000.0))
    def a_request_passes(self, data: st.DataObject, first_byte_ms: float) -> None:
        asked = self.end(data)
        was = self.health.ill.get(asked.name)
        self.health.passed(asked.name, first_byte_ms, self.now)

        if first_byte_ms <= 2000.0 and was is not None:
            if was.probing:
                assert "well" == self.health.vitals()[asked.name].state
                assert asked.name not in self.health.resting(self.now)
                self.outcome(asked.name)
            else:
                assert asked.name not in self.health.resting(self.now)
                assert asked.name in self.health.ill
        elif was is not None and was.probing:
            self.rests_for_longer(asked.name, was)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_request_fails(self, data: st.DataObject) -> None:
        asked = self.end(data)
        was = self.health.ill.get(asked.name)
        self.health.failed(asked.name, "reset", self.now)

        if was is not None and was.probing:
            self.rests_for_longer(asked.name, was)
        elif was is not None:
            assert was is self.health.ill[asked.name]

    @precondition(lambda self: any(each.probe for each in self.running))
    @rule(data=st.data())
    def the_client_of_a_probe_leaves(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from([each for each in self.running if each.probe]))
        self.running.remove(asked)
        was = self.health.ill[asked.name]
        assert was is asked.probe
        self.health.unproven(asked.name, was, self.now)

        assert replace(was, until=self.now, probing=False) == self.health.ill[asked.name]
        assert asked.name not in self.health.resting(self.now)
        self.outcome(asked.name)

    @rule()
    def everybody_fails(self) -> None:
        """Else three failures in a row of all of them would hardly ever come by chance."""
        for name in NAMES:
            for _ in range(POLICY.failures):
                if name not in self.health.ill:
                    self.health.failed(name, "reset", self.now)
        assert set(NAMES) == self.health.ill.keys()

    @rule(seconds=st.sampled_from([0.001, 1.0, 9.999, 10.0, 40.0]) | st.floats(0.0, 100.0))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_keeps_a_snapshot(self) -> None:
        self.snapshots.append(Seen(self.health.ill))

    @invariant()
    def snapshots_stay_as_they_were(self) -> None:
        assert all(each.copy == each.snapshot for each in self.snapshots)

    @invariant()
    def no_rest_is_without_end(self) -> None:
        for illness in self.health.ill.values():
            assert POLICY.cooldown <= illness.rest <= 8 * POLICY.cooldown
            assert illness.until <= self.now + illness.rest

    @invariant()
    def pages_tell_the_same(self) -> None:
        told = {name: vital.state for name, vital in self.health.vitals().items() if vital.state != "well"}
        assert {name: "probing" if each.probing else "resting" for name, each in self.health.ill.items()} == told
        assert self.health.resting(self.now).keys() <= told.keys()

    def end(self, data: st.DataObject) -> Asked:
        asked = data.draw(st.sampled_from(self.running))
        self.running.remove(asked)
        return asked

    def rests_for_longer(self, name: str, was: Illness) -> None:
        illness = self.health.ill[name]
        assert Illness(illness.reason, self.now + illness.rest, False, min(2 * was.rest, 80.0)) == illness
        self.outcome(name)

    def outcome(self, name: str) -> None:
        """The probe has its outcome, whichever request it came from: what is on its way probes no more."""
        for each in self.running:
            each.probe = None if each.name == name else each.probe


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
