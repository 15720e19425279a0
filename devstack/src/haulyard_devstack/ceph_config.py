"""The configuration of a one-machine Ceph: one monitor, one OSD in a sparse file, one S3 gateway, no manager."""

import base64
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from haulyard_devstack.ceph_packages import CephPrograms
from haulyard_devstack.ports import LOOPBACK

GIB = 1024**3
MESSENGER_PORTS = 40
"""How many ports the OSD may choose from; it needs four."""


@dataclass(frozen=True, kw_only=True)
class CephOptions:
    """What differs between clusters."""

    osd_bytes: int = 20 * GIB
    """Size of the sparse file that holds all objects. Only the first start looks at it."""
    lifecycle_day_seconds: int | None = None
    """Let this many seconds count as a day in lifecycle rules, for tests of expiry; None means real days."""


def render_config(
    *,
    programs: CephPrograms,
    data: Path,
    fsid: str,
    mon_port: int,
    s3_port: int,
    messenger_base: int,
    options: CephOptions,
) -> str:
    """Return `ceph.conf`."""
    plugins = programs.library_dir("ceph")
    lifecycle = options.lifecycle_day_seconds
    return f"""\
[global]
fsid = {fsid}
mon host = [v1:{LOOPBACK}:{mon_port}]
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {data}/keyring
mon data = {data}/mon
osd data = {data}/osd
crash dir = {data}/crash
run dir = {data}
plugin dir = {plugins}
erasure code dir = {plugins}/erasure-code
osd class dir = {programs.library_dir("rados-classes")}
setuser match path =
public addr = {LOOPBACK}
cluster addr = {LOOPBACK}
ms bind ipv6 = false
ms bind msgr2 = false
ms bind port min = {messenger_base}
ms bind port max = {messenger_base + MESSENGER_PORTS - 1}
# A socket's path may not be longer than 107 bytes, which a deep clone directory exceeds; nobody asks these sockets.
admin socket =
pid file =
# Everything goes to the standard error of the process, which is our log file.
log file =
log to stderr = true
err to stderr = true
mon cluster log to file = false
mon cluster log file =
# One copy of everything on one OSD, and few placement groups: this is one machine's disk.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
mon allow pool size one = true
mon max pg per osd = 500
# A monitor alone has nobody to wait for: the defaults (one second) make every new pool take seconds.
paxos propose interval = 0.05
paxos min wait = 0.02
# The monitor would stop when a big disk is 95 % full; the last hundredth of one is still plenty.
mon data avail warn = 0
mon data avail crit = -1
# After a kill -9 of the gateway the first change of a bucket waits until its old self's watch has run out.
osd client watch timeout = 5
osd objectstore = bluestore
bluestore block size = {options.osd_bytes}
bluestore block create = true
bluestore fsck on mount = false
osd memory target = 939524096
bluestore cache size = 134217728
bluestore cache autotune = false
debug mon = 0
debug paxos = 0
debug osd = 0
debug rgw = 0
debug bluestore = 0
debug rocksdb = 0
debug ms = 0

[client.rgw]
rgw frontends = beast endpoint={LOOPBACK}:{s3_port}
rgw thread pool size = 64
rgw enable apis = s3, admin
rgw dns name = localhost
rgw num rados handles = 1
# The gateway starts together with the OSD, and after a crash the map still shows the OSD that is gone: ask again soon.
objecter tick interval = 0.5
objecter timeout = 2
rgw usage max shards = 1
rgw override bucket index max shards = 1
rgw data log num shards = 1
rgw md log max shards = 1
rgw reshard num logs = 1
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
# Space of deleted archives comes back within minutes instead of hours.
rgw gc max objs = 4
rgw gc obj min wait = 60
rgw gc processor period = 60
rgw gc processor max time = 60
rgw lc max objs = 4
# Several workers wait for each other's locks in sleeps of five seconds, and a stop waits for them.
rgw lc max worker = 1
rgw lc lock max time = 5
rgw lifecycle work time = 00:00-23:59
rgw lc debug interval = {-1 if lifecycle is None else lifecycle}
"""


def new_key() -> str:
    """Return a fresh cephx key: type, creation time and length, then sixteen random bytes."""
    return base64.b64encode(struct.pack("<hiih", 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


def render_keyring() -> str:
    """Return the keys of the monitor, of us, of the OSD and of the gateway."""
    everything = {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}
    caps = {"mon.": {"mon": "allow *"}, "client.admin": everything, "osd.0": everything, "client.rgw": everything}
    blocks = []
    for entity, rights in caps.items():
        lines = [f"[{entity}]", f"\tkey = {new_key()}", *(f'\tcaps {kind} = "{cap}"' for kind, cap in rights.items())]
        blocks.append("\n".join(lines))
    return "\n".join(blocks) + "\n"
