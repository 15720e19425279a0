"""Give commands to a Ceph monitor: `mon_command.py CONFIG COMMAND ...`, each command a JSON object.

A script of its own, because the library has to be loaded under the library path of the unpacked packages, and because
one connection for all commands is several times faster than the `ceph` program, which also needs the Python modules of
the machine's own Python.
"""

import ctypes
import sys

_TIMEOUTS = {b"client_mount_timeout": b"60", b"rados_mon_op_timeout": b"60"}


def main(args: list[str]) -> None:
    """Run the commands in order; the first that fails ends the script with its error."""
    config, commands = args[0], args[1:]
    rados = ctypes.CDLL("librados.so.2")
    cluster = ctypes.c_void_p()
    _check(rados.rados_create(ctypes.byref(cluster), b"admin"), "create")
    _check(rados.rados_conf_read_file(cluster, config.encode()), "read the configuration")
    for name, value in _TIMEOUTS.items():
        _check(rados.rados_conf_set(cluster, name, value), "configure")
    _check(rados.rados_connect(cluster), "connect")
    for command in commands:
        words = (ctypes.c_char_p * 1)(command.encode())
        answer, status = ctypes.c_char_p(), ctypes.c_char_p()
        answer_size, status_size = ctypes.c_size_t(), ctypes.c_size_t()
        code = rados.rados_mon_command(
            *(cluster, words, ctypes.c_size_t(1), b"", ctypes.c_size_t(0)),
            *(ctypes.byref(answer), ctypes.byref(answer_size)),
            *(ctypes.byref(status), ctypes.byref(status_size)),
        )
        _check(code, f"{command}: {(status.value or b'').decode(errors='replace')}")
    rados.rados_shutdown(cluster)


def _check(code: int, what: str) -> None:
    if code < 0:
        sys.exit(f"cannot {what} (error {-code})")


if __name__ == "__main__":
    main(sys.argv[1:])
