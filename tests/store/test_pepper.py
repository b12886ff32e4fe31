"""The pepper beside the store."""

from pathlib import Path

import pytest

from relay.errors import SetupFault
from relay.store.pepper import pepper


def test_it_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    made = pepper(tmp_path / "relay.db", {}, used=False)

    assert 32 == len(made)
    assert made == pepper(tmp_path / "relay.db", {}, used=False)
    assert ["relay.pepper"] == [path.name for path in tmp_path.iterdir()]
    assert 0o600 == (tmp_path / "relay.pepper").stat().st_mode & 0o777


def test_the_environment_comes_first(tmp_path: Path) -> None:
    assert b"given" == pepper(tmp_path / "relay.db", {"RELAY_PEPPER": "given"}, used=False)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "expected"), [(b"zz", "not hexadecimal"), (b"", "too short"), (b"\xff", "not hexa")]
)
def test_a_damaged_one_is_told(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "relay.pepper").write_bytes(content)

    with pytest.raises(SetupFault, match=expected):
        pepper(tmp_path / "relay.db", {}, used=False)


def test_one_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupFault, match="No such file"):
        pepper(tmp_path / "missing" / "relay.db", {}, used=False)


def test_one_that_was_used_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(SetupFault, match="it is gone; bring back the file that the keys were made with"):
        pepper(tmp_path / "relay.db", {}, used=True)

    assert [] == list(tmp_path.iterdir())
    assert b"given" == pepper(tmp_path / "relay.db", {"RELAY_PEPPER": "given"}, used=True)
