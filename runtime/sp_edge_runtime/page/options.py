"""What a user may choose about the page's server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sp_edge.options import check, whole


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Where the page is to be had, and by whom.

    Attributes:
        host: Listen on this address. Any other than a loopback one asks for a token; 0.0.0.0 is every IPv4 address.
        port: Listen on this port, 0 to 65535. 0 takes a free one.
        cert: Serve https with this certificate (PEM); needs --key.
        key: Take the certificate's private key from this file (PEM).
        token_file: Keep the token in this file, which is made if it is not there, and print none. Without it, each start
            makes another one and prints it.
        allow_host: Accept this name of the device in an address, too, such as that of a proxy before it.

    Raises:
        SettingsError: an option is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    allow_host: str | None = None

    def __post_init__(self) -> None:
        check(
            self,
            host=(bool(self.host.strip()), "an address of this device, such as 0.0.0.0"),
            port=(whole(self.port, 0, 65535), "a port, 0 to 65535"),
            cert=(bool(self.cert) == bool(self.key), "--cert and --key together"),
        )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
