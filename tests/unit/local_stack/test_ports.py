import socket

import pytest

from local_stack.processes.ports import LOOPBACK, TWIN_OFFSET, NoFreePort, Ports, listener_error


def test_no_two_stacks_get_the_same_port() -> None:
    with Ports() as first:
        port = first.claim("kafka")
        with Ports(wanted={"kafka": port}) as second:
            assert second.claim("kafka") != port


def test_a_wanted_port_is_given_again() -> None:
    with Ports() as first:
        port = first.claim("kafka")
    with Ports(wanted={"kafka": port}) as again:
        assert again.claim("kafka") == port
        assert again.taken == {"kafka": port}


def test_a_server_can_listen_on_a_held_port() -> None:
    with Ports() as ports, socket.create_server((LOOPBACK, ports.claim("http"))) as server:
        assert listener_error(server.getsockname()[1]) is None


def test_a_port_in_use_is_not_given() -> None:
    with Ports() as ports:
        port = ports.claim("http")
    with socket.create_server(("", port)), Ports(wanted={"http": port}) as others:
        assert others.claim("http") != port


def test_the_twin_is_held_too() -> None:
    with Ports() as ports:
        twin = ports.claim_with_twin("filer") + TWIN_OFFSET
        with Ports(wanted={"http": twin}) as others:
            assert others.claim("http") != twin


def test_the_error_names_the_claim_when_no_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_stack.processes.ports.ATTEMPTS", 0)
    with Ports() as ports, pytest.raises(NoFreePort, match="kafka"):
        ports.claim("kafka")


def test_the_listener_error_has_the_reason() -> None:
    with Ports() as ports:
        assert "refused" in (listener_error(ports.claim("http")) or "")
