"""Ports are free, remembered, and never promised twice."""

import socket
from pathlib import Path

import pytest

from haulyard_devstack import ports
from haulyard_devstack.remembered import Remembered


def test_a_listener_makes_a_port_taken_and_its_end_makes_it_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_listener_on_all_addresses_makes_a_port_taken() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not ports.is_free(listener.getsockname()[1])


def test_the_first_preferred_port_that_is_free_and_not_promised_is_chosen() -> None:
    assert ports.choose([1, 2, 3, 4], {2}, free=lambda port: port in {2, 4}) == 4


def test_any_free_port_is_drawn_when_no_preferred_one_can_be_had() -> None:
    draws = iter([20_001, 20_002, 20_003])
    assert ports.choose([80], {20_002}, free=lambda port: port > 20_001, draw=lambda _: next(draws)) == 20_003


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(OSError, match="no free port"):
        ports.choose(free=lambda _: False)


def test_drawn_ports_stay_out_of_the_ranges_of_others() -> None:
    assert ports.RANGE.stop <= ports.MESSENGER_RANGE.start
    assert ports.MESSENGER_RANGE.stop <= 32_768


def test_a_port_is_remembered_while_it_is_free(tmp_path: Path) -> None:
    first = Remembered(tmp_path / "kept.json").port("client")
    assert Remembered(tmp_path / "kept.json").port("client") == first
    other = Remembered(tmp_path / "kept.json", free=lambda port: port != first).port("client")
    assert other != first
    assert Remembered(tmp_path / "kept.json").port("client") == other


def test_a_remembered_port_wins_over_a_preferred_one(tmp_path: Path) -> None:
    everything_free = lambda _: True  # noqa: E731
    assert Remembered(tmp_path / "kept.json", free=everything_free).port("gateway", prefer=[8080]) == 8080
    assert Remembered(tmp_path / "kept.json", free=everything_free).port("gateway", prefer=[9090]) == 8080


def test_two_names_never_share_a_port(tmp_path: Path) -> None:
    kept = Remembered(tmp_path / "kept.json", free=lambda _: True)
    assert kept.port("one", prefer=[8080]) == 8080
    assert kept.port("two", prefer=[8080]) != 8080


def test_secrets_are_kept_in_a_file_that_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    secret = Remembered(path).secret("jwt")
    assert len(secret) >= 32
    assert Remembered(path).secret("jwt") == secret
    assert Remembered(path).secret("ticket") != secret
    assert path.stat().st_mode & 0o777 == 0o600
