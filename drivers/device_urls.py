"""What the URLs of all devices have in common: host and port, options after the question mark, ``deadline=SECONDS``."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection, Mapping
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from drivers.errors import DeviceError

MIN_DEADLINE_S, MAX_DEADLINE_S = 0.1, 86400.0
MAX_SETTLE = 10_000
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SECONDS = re.compile(r"[0-9]{1,5}(\.[0-9]{1,6})?")


def take_deadline(url: str) -> tuple[str, float | None]:
    """The URL without ``deadline=SECONDS``, and the seconds; None where it has none.

    Raises:
        DeviceError: it stands there twice, or is no number in 0.1..86400.
    """
    base, mark, query = url.partition("?")
    pairs = query.split("&") if mark else []
    values = [pair.partition("=")[2] for pair in pairs if pair.partition("=")[0] == "deadline"]
    if not values:
        return url, None
    if len(values) > 1:
        raise DeviceError(f"{hidden(url)}: deadline= stands there {len(values)} times; leave one")
    if not _SECONDS.fullmatch(values[0]) or not MIN_DEADLINE_S <= float(values[0]) <= MAX_DEADLINE_S:
        raise DeviceError(
            f"{hidden(url)}: deadline={values[0]} is not a number of seconds in "
            f"{MIN_DEADLINE_S:g}..{MAX_DEADLINE_S:g}, such as deadline=120"
        )
    kept = "&".join(pair for pair in pairs if pair.partition("=")[0] != "deadline")
    return base + ("?" + kept if kept else ""), float(values[0])


def parts(url: str) -> tuple[str, str, str]:
    """Scheme, what stands between the colon and the question mark, and the query of any device URL."""
    scheme, _, rest = url.partition(":")
    place, _, query = rest.partition("?")
    return scheme, place, query


def with_option(url: str, name: str, value: object) -> str:
    """The URL with ``name=value`` as its last option, in the place of those of that name."""
    base, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] != name]
    return f"{base}?{'&'.join([*kept, f'{name}={value}'])}"


def settle_count(url: str) -> int | None:
    """The ``settle`` of a URL's query, frames in 0..10000; None where it has none.

    Raises:
        DeviceError: it is not a whole number in 0..10000.
    """
    values = parse_qs(parts(url)[2], keep_blank_values=True).get("settle")
    if values is None:
        return None
    text = values[-1]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_SETTLE):
        raise DeviceError(f"{url}: settle={text} is not a number of frames in 0..{MAX_SETTLE}")
    return int(text)


def options(url: str, query: str, known: Collection[str]) -> dict[str, str]:
    """The options of a URL's query.

    Raises:
        DeviceError: one is unknown, stands there twice, or has no value.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError(f"after the question mark stand NAME=VALUE and & between them, not {query!r}") from None
    found = dict(pairs)
    if unknown := sorted(set(found) - set(known)):
        close = difflib.get_close_matches(unknown[0], list(known), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DeviceError(
            f"device URL {hidden(url)!r}: unknown option {unknown[0]!r}; known are {', '.join(known)}{hint}"
        )
    if len(found) < len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise DeviceError(f"device URL {hidden(url)!r}: option {twice!r} stands there twice; leave one")
    if empty := [name for name, value in pairs if not value]:
        raise DeviceError(f"device URL {hidden(url)!r}: option {empty[0]!r} has no value; give one, or leave it out")
    if found.get("plain", "1") not in ("0", "1"):
        raise DeviceError(f"device URL {hidden(url)!r}: plain={found['plain']} is not 0 or 1")
    return found


def split(url: str) -> SplitResult:
    """``urlsplit`` with one error.

    Raises:
        ValueError: what is wrong, for people.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{error}".lower()) from None


def host_and_port(parts: SplitResult) -> tuple[str, int]:
    """The host, lower case and without brackets, and the port.

    Raises:
        ValueError: one is missing or odd, or something else stands beside them; the text says what.
    """
    if "@" in parts.netloc:
        raise ValueError("a device takes no user name or password; leave out what stands before the @")
    if parts.fragment:
        raise ValueError(f"{'#' + parts.fragment!r} is no part of it; write # within a name as %23")
    if parts.path.strip("/"):
        raise ValueError(f"nothing may follow the port, not {parts.path!r}")
    host = parts.hostname
    if not host:
        raise ValueError("there is no host in it")
    if host == "*" or host == "0.0.0.0" or host == "::":
        raise ValueError(f"{host!r} is where a device listens; name the machine on which it runs")
    if ":" not in host and not is_host_name(host):
        raise ValueError(f"{host!r} is no host name: letters, digits, hyphens and dots{_ascii_form(host)}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        raise ValueError(f"there is no port behind {host!r}")
    if not port:
        raise ValueError(f"port {parts.netloc.rpartition(':')[2]!r} is not a number in 1..65535")
    return host, port


def on_network(url: str) -> tuple[str | None, dict[str, str]] | None:
    """Host and options of a URL that names a machine: ``zmq:``, or a serial line over a network port.

    None for every other URL, and for one that its driver will refuse.
    """
    prefix, inner = _inner(url)
    if not prefix and not url.startswith("zmq:"):
        return None
    try:
        parts = urlsplit(inner)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None
    found = dict(pairs)
    return (parts.hostname, found) if len(found) == len(pairs) else None


def with_options(url: str, options: Mapping[str, str]) -> str:
    """A URL of :func:`on_network` with these options in the place of its own."""
    prefix, inner = _inner(url)
    return prefix + urlunsplit(urlsplit(inner)._replace(query=urlencode(options, safe="/:\\~")))


def _inner(url: str) -> tuple[str, str]:
    """A serial line over a network port has a URL within its URL: ``serial:socket://host:port``."""
    prefix = "serial:" if url.startswith(("serial:socket:", "serial:rfc2217:")) else ""
    return prefix, url.removeprefix(prefix)


def listen_address(url: str, schemes: Collection[str]) -> tuple[str, int] | None:
    """Host and port on which a device is to listen; None where the URL is none of these schemes with both.

    ``localhost`` is 127.0.0.1; port 0 is any free one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if host is None or port is None or parts.scheme not in schemes or parts.path.strip("/"):
        return None
    return "127.0.0.1" if host == "localhost" else host, port


def is_host_name(host: str) -> bool:
    """Whether it can be the name of a machine, or its IPv4 address."""
    name = host.removesuffix(".")
    return 0 < len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def same_host(host: str) -> str:
    """A form that is equal for equal hosts: lower case, no brackets, no final dot, IPv6 addresses in short form."""
    name = host.strip().removeprefix("[").removesuffix("]").removesuffix(".").casefold()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def hidden(url: str) -> str:
    """The URL for messages: what stands before an @ may be a password."""
    return re.sub(r"//[^/?#]*@", "//…@", url)


def _ascii_form(host: str) -> str:
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return f"; write it as {name}" if name != host and is_host_name(name) else ""
