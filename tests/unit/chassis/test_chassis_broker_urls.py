"""Credentials leave the URLs of servers, so that they hold for servers that are found out later."""

from typing import Any

import pytest

from haulyard_chassis.broker import credentials_apart


@pytest.mark.parametrize(
    ("urls", "options"),
    [
        (["nats://u:p@a:4222"], {"servers": ["nats://a:4222"], "user": "u", "password": "p"}),
        (["u:p@a:4222"], {"servers": ["nats://a:4222"], "user": "u", "password": "p"}),
        (["tls://u:p@a:1", "tls://u:p@b:2"], {"servers": ["tls://a:1", "tls://b:2"], "user": "u", "password": "p"}),
        (["nats://u:p%40x@[::1]:4222"], {"servers": ["nats://[::1]:4222"], "user": "u", "password": "p%40x"}),
        (["nats://secret@a:4222"], {"servers": ["nats://a:4222"], "token": "secret"}),
        (["nats://a:4222", "b:4222"], {"servers": ["nats://a:4222", "nats://b:4222"]}),
        (["nats://u:p@a:1", "nats://v:q@b:2"], {"servers": ["nats://u:p@a:1", "nats://v:q@b:2"]}),
    ],
)
def test_what_all_servers_share_is_said_beside_them(urls: list[str], options: dict[str, Any]) -> None:
    assert credentials_apart(urls) == options
