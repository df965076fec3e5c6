"""Where to listen for browsers and the like: [HOST:]PORT, on this machine only unless said."""

from ipaddress import ip_address

from p2p.errors import Usage

LOOPBACK = "127.0.0.1"
PORT_MAX = 65_535


def parse(text: str, flag: str) -> tuple[str, int]:
    """(host, port). Raises Usage, which names the flag."""
    host, _, port = text.strip().rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= PORT_MAX:
        raise Usage(f"{flag} {text!r} is not [HOST:]PORT")
    return host.strip("[]") or LOOPBACK, int(port)


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def in_url(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
