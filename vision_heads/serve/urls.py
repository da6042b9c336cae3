"""Which stream URLs a request may add: network cameras, never files, never odd addresses.

The server fetches what it is told to (server-side request forgery is what this invites), so the
scheme must be one of cameras', the host one that may be asked, and nothing of the answer but
pictures is ever shown. An address is looked up here and again when the stream is opened; who
controls a name's DNS can answer differently. Where that matters, name the cameras that may be
added (`hosts`), or allow none to be added.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from vision_heads.errors import UserError, require
from vision_heads.media.hosts import look_up
from vision_heads.media.urls import redact_url, scheme_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SCHEMES = ("rtsp", "rtsps", "http", "https")
MAX_URL = 2048
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class StreamRules:
    """What may be added by a request.

    Attributes:
        schemes: of URLs.
        hosts: patterns such as "cam-*.example" or "10.0.0.*"; what matches one is allowed,
            whatever its address. Empty: all hosts but those below.
        only_hosts: nothing else than `hosts` is allowed.
        loopback: whether this machine itself may be asked; a service that others reach should
            not let them.
        look_up: host and port to addresses; for tests.
    """

    schemes: Sequence[str] = SCHEMES
    hosts: Sequence[str] = ()
    only_hosts: bool = False
    loopback: bool = True
    look_up: Callable[[str, int], list[str]] = look_up

    def check(self, url: str) -> None:
        """Raise `UserError` unless the URL may be added; looks its host up.

        No message repeats the URL's credentials.
        """
        require(self.hosts or not self.only_hosts, "url: no streams may be added here")
        require(len(url) <= MAX_URL, f"url: longer than {MAX_URL} characters")
        require(
            url.isprintable() and " " not in url and "\\" not in url,
            "url: has spaces, backslashes or unprintable characters; write them as %20, %5C",
        )
        scheme = scheme_of(url)
        require(
            scheme in self.schemes,
            f"url: {scheme}:// is not allowed here; use {', '.join(self.schemes)}"
            if scheme
            else f"url: must begin with {', '.join(f'{name}://' for name in self.schemes)}",
        )
        shown = redact_url(url)
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(scheme, 0)
        except ValueError:
            # Its own text may repeat what stands before the host.
            raise UserError(f"url: {shown}: the host or port is not valid") from None
        require(host, f"url: {shown}: names no host")
        if any(fnmatchcase(host, pattern.lower()) for pattern in self.hosts):
            return
        require(not self.only_hosts, f"url: {shown}: this host is not one of those allowed here")
        self._check_addresses(host, port, shown)

    def _check_addresses(self, host: str, port: int, shown: str) -> None:
        try:
            found = self.look_up(host, port)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "not a host name"
            raise UserError(f"url: {shown}: host not found ({reason})") from None
        for text in found:
            reason = self._refused(text)
            require(not reason, f"url: {shown}: {reason}")

    def _refused(self, text: str) -> str:
        """Say why an address may not be asked, "" if it may. Private ones are where cameras are."""
        address = _plain(ipaddress.ip_address(text.partition("%")[0]))
        if address.is_loopback:
            return "" if self.loopback else "is this machine itself, which may not be asked"
        if address.is_link_local:
            return "is a link-local address, where clouds keep their secrets"
        if address.is_unspecified or address.is_multicast or address.is_reserved:
            return "is no address of a camera"
        return ""


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address
