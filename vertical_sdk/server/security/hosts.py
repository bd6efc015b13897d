"""For which host names a server answers. A page of another site whose name was pointed at this machine (DNS rebinding) is refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from vertical_sdk.server.errors import Refusal, Refuse

__all__ = ["HostCheck", "accepted_hosts"]

LOCALHOST = "localhost"


class HostCheck:
    """ASGI middleware that answers 421 if the request's Host is not one of the accepted ones.

    hosts   without ports, in small letters
    refuse  how the server writes an error
    exempt  paths that answer for every host, such as health checks
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], refuse: Refuse, exempt: Collection[str] = ()) -> None:
        self.app = app
        self.refuse = refuse
        self.hosts = frozenset(hosts)
        self.exempt = frozenset(exempt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in self.exempt:
            given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if any(not self._accepts(_name(host)) for host in given):
                message = "this server does not answer for this host name. Start it with --allowed-host NAME to allow it."
                seen = {"app": self.app, **scope}  # a page finds its own addresses by it
                await self.refuse(seen, Refusal(421, message))(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _accepts(self, host: str) -> bool:
        """Whether it is an accepted name, or an address: no other site can have an address as its name."""
        return host in self.hosts or _is_address(host)


def accepted_hosts(host: str, allowed: Collection[str], *, proxy: bool) -> frozenset[str] | None:
    """The host names that a server answers for; None means all.

    host     the address that it listens on
    allowed  names that the operator gave. Without them, a server of this machine only, with no proxy, answers for this machine's
             names; any other server has names that it cannot know
    """
    if not allowed and (proxy or not _is_loopback(host)):
        return None
    return frozenset({LOCALHOST, _name(host), *map(_name, allowed)})


def _name(host: str) -> str:
    """A host without its port, in small letters, without the dot at its end."""
    host = host.strip().lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name if not rest or rest.startswith(":") else host
    return (host if host.count(":") > 1 else host.partition(":")[0]).rstrip(".")


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == LOCALHOST
