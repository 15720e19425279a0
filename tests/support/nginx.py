"""Real nginx with our configuration: the machine's own, or the distribution's, fetched once and run without root."""

import datetime as dt
import ipaddress
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from haulyard_devstack import DevstackError, apt
from haulyard_devstack.process import Command, ManagedProcess
from support.proxied import ROOT, cache, listens, replaced

CONFIGURATION = ROOT / "deploy/proxy/nginx/haulyard.conf"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx:
    """nginx that runs."""

    url: str
    """``https://host:port``"""
    plain_url: str
    """``http://host:port``, which leads to the other."""
    trust: ssl.SSLContext
    """Trusts its certificate."""
    access_log: Path


@dataclass(frozen=True, slots=True)
class Program:
    """Where nginx is, and the variables with which it finds its libraries."""

    path: str
    environment: Mapping[str, str]


async def program() -> Program:
    """Return nginx; half a megabyte is fetched the first time. The test is skipped where it cannot be had."""
    installed = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed is not None:
        return Program(installed, {})
    try:
        root = await apt.unpacked(
            cache() / "nginx", ("nginx",), pick=_needed, check=_check, about="proxy: fetching nginx (once)"
        )
    except DevstackError as error:
        pytest.skip(f"THE CONFIGURATION OF NGINX IS NOT TESTED: nginx cannot be had here ({error})")
    libraries = ":".join(str(folder) for folder in apt.library_folders(root))
    return Program(str(root / "usr/sbin/nginx"), {"LD_LIBRARY_PATH": libraries})


def _needed(packages: Sequence[str]) -> list[str]:
    """The program and its libraries; its scripts and the tools that they need are of no use here."""
    return [name for name in packages if name == "nginx" or name.startswith("lib")]


def _check(root: Path) -> None:
    if not (root / "usr/sbin/nginx").exists():
        raise DevstackError("nginx is not in its package")


@asynccontextmanager
async def running_nginx(
    folder: Path,
    ports: tuple[int, int],
    *,
    gateway: str,
    notifier: str,
    changes: Mapping[str, str] | None = None,
) -> AsyncIterator[Nginx]:
    """Run nginx in front of two services.

    Args:
        folder: takes its certificate, logs and temporary files.
        ports: on which it listens, for TLS and without.
        gateway: ``host:port`` of the gateway.
        notifier: ``host:port`` of the notifier.
        changes: lines of the configuration and what takes their place.
    """
    nginx = await program()
    tls, plain = ports
    _prepare(folder, ports, gateway, notifier, changes or {})
    process = ManagedProcess(
        Command(
            name="nginx",
            argv=[nginx.path, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
            log_file=folder / "nginx.out",
            pid_file=folder / "supervised.pid",
            env=nginx.environment,
        )
    )
    await process.start(lambda: listens(tls))
    try:
        yield Nginx(
            url=f"https://127.0.0.1:{tls}",
            plain_url=f"http://127.0.0.1:{plain}",
            trust=ssl.create_default_context(cafile=str(folder / "haulyard.crt")),
            access_log=folder / "haulyard.log",
        )
    finally:
        await process.stop()


def _prepare(folder: Path, ports: tuple[int, int], gateway: str, notifier: str, changes: Mapping[str, str]) -> None:
    """Write what nginx needs: our configuration with the addresses of here, and one around it."""
    tls, plain = ports
    folder.mkdir(parents=True, exist_ok=True)
    configuration = replaced(
        CONFIGURATION.read_text(),
        {
            "    server gateway-1:8080 max_fails=3 fail_timeout=10s;\n": f"    server {gateway};\n",
            "    server gateway-2:8080 max_fails=3 fail_timeout=10s;\n": "",
            "    server notifier-1:8080 max_fails=3 fail_timeout=10s;\n": f"    server {notifier};\n",
            "    server notifier-2:8080 max_fails=3 fail_timeout=10s;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{tls} ssl http2;",
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "/etc/nginx/haulyard.crt": f"{folder}/haulyard.crt",
            "/etc/nginx/haulyard.key": f"{folder}/haulyard.key",
            **changes,
        },
    ).replace("/var/log/nginx", str(folder))
    (folder / "haulyard.conf").write_text(configuration)
    (folder / "nginx.conf").write_text(_main(folder))
    _make_certificate(folder)


def _main(folder: Path) -> str:
    temporary = "\n".join(f"    {name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    return f"""\
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
{temporary}
    include {folder}/haulyard.conf;
}}
"""


def _make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "haulyard test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "haulyard.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "haulyard.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
