"""When a server says where it is."""

from __future__ import annotations

import socket

from tests.serve.real_server import ADDRESS, starting


def test_a_server_says_its_address_when_it_takes_connections():
    with starting("--port", "0") as server:
        address = server.wait_for(ADDRESS.pattern)[1]
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60):
            pass
        assert server.stop() == 0
