"""Text from elsewhere (devices, files, names of files), made fit to be shown on a terminal or in one line."""

from __future__ import annotations

import traceback
import unicodedata
from pathlib import PurePath

# Control and format characters (escape sequences, bidirectional overrides), surrogates (names of files that are no
# UTF-8), private use and unassigned: what may change how the rest of a terminal's line looks, or cannot be encoded.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown_page(text: str) -> str:
    """A whole page or drawing with the characters escaped that would change how others look; line ends and tabs stay.

    Tags and entities are not looked at: text in a page is escaped for HTML where it is put in.
    """
    return shown(text, keep="\n\r\t")


def shown(text: object, *, keep: str = "") -> str:
    r"""The text with every character that a terminal might act on written as ``\x1b``, ``\u202e``, …

    Args:
        text: anything; its ``str``.
        keep: characters let through all the same, such as ``"\n"`` for text of several lines.

    >>> shown("gain\x1b[31m")
    'gain\\x1b[31m'
    """
    string = str(text)
    if string.isascii() and string.isprintable():
        return string
    # Each character is looked at once: a page has millions, but few that differ.
    unshown = [c for c in set(string) if c not in keep and unicodedata.category(c) in _UNSHOWN]
    return string.translate({ord(c): ascii(c)[1:-1] for c in unshown}) if unshown else string


def shown_failure(error: Exception) -> str:
    """What code from elsewhere raised, in one line: its kind, what it says, and the file and line that raised it."""
    reason = shown(" ".join(str(error).split()))[:200]
    at = traceback.extract_tb(error.__traceback__)[-1]
    kind = f"{type(error).__name__}{f': {reason}' if reason else ''}"
    return f"{kind} ({shown(PurePath(at.filename).name)}, line {at.lineno})"
