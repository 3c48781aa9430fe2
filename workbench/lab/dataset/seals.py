"""Seals of rows: a digest over a row's columns, so that a changed value is noticed wherever it stands.

SQLite keeps no checksum of what it stores. A seal finds what a bad disk or a hand changed; who changes the seal as well
is not kept out, for nothing in the lab folder is secret.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Float, Integer

_OUTSIDE = frozenset({"id", "seal"})


def seal_of(columns: Iterable[Any], row: Mapping[Any, Any]) -> str:
    """SHA-256, 64 hexadecimal digits, of the row's values as canonical JSON.

    Args:
        columns: SQLAlchemy's, of the table; its number and the seal itself are left out.
        row: value by column; a column that is not in it counts as None.
    """
    values = {c.name: _plain(c, row.get(c.name)) for c in columns if c.name not in _OUTSIDE}
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def sealed(columns: Iterable[Any], row: Mapping[Any, Any]) -> dict[str, Any]:
    """The row with its seal."""
    return {**row, "seal": seal_of(columns, row)}


def _plain(column: Any, value: Any) -> Any:
    """The value as the database gives it back: a whole number in a column of reals is a real there."""
    if value is None:
        return None
    return float(value) if isinstance(column.type, Float) else int(value) if isinstance(column.type, Integer) else value
