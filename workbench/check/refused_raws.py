"""Sections 7 and 9 of PROTOCOL.md: RAWs that are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import msgpack

from drivers.cfa import CFA_PATTERNS, tile_side
from drivers.protocol import wire
from workbench.check.peer import Peer, Requirement
from workbench.check.requirements import NoAnswerError, NotMetError, needs


def _process_of(peer: Peer, metadata: bytes | None = None, payload: bytes | None = None) -> wire.Process:
    """PROCESS of this metadata and payload, its hash theirs."""
    needs(not peer.info.live, "a live device takes no RAW")
    request = wire.process_request(peer.new_id(), peer.raw, peer.far(0.6).items(), peer.info.input)
    metadata = request.metadata if metadata is None else metadata
    payload = bytes(request.payload) if payload is None else payload
    digest = hashlib.sha256(metadata + payload).hexdigest()
    return dataclasses.replace(request, raw_hash=digest, metadata=metadata, payload=payload)


def _damaged(peer: Peer) -> None:
    request = _process_of(peer)
    for place in (0, len(request.payload) // 2, len(request.payload) - 1):
        payload = bytearray(request.payload)
        payload[place] ^= 1
        damaged = dataclasses.replace(request, id=peer.new_id(), payload=bytes(payload))
        peer.refused(damaged.id, wire.encode(damaged), ("raw_hash",))
    metadata = request.metadata.replace(b'"white_level": ', b'"white_level":  ')
    damaged = dataclasses.replace(request, id=peer.new_id(), metadata=metadata)
    peer.refused(damaged.id, wire.encode(damaged), ("raw_hash",))


def _odd_metadata(peer: Peer) -> None:
    needs(not peer.info.live, "a live device takes no RAW")
    right = peer.raw.metadata
    missing = {k: v for k, v in right.items() if k != "cfa"}
    for what, metadata in (
        ("that is no JSON", b"width: 64"),
        ("that is no object", b"[]"),
        ("that ends early", json.dumps(right).encode()[:-1]),
        ("without cfa", json.dumps(missing).encode()),
        ("with a key too many", json.dumps({**right, "lens": 1}).encode()),
        ("of another CFA", json.dumps({**right, "cfa": "RGBW"}).encode()),
        ("of an odd width", json.dumps({**right, "width": right["width"] - 1}).encode()),
        ("with three black levels", json.dumps({**right, "black_level": [64.0] * 3}).encode()),
        ("with black above white", json.dumps({**right, "black_level": [right["white_level"] + 1.0] * 4}).encode()),
        ("with NaN", json.dumps({**right, "iso": float("nan")}).encode()),
        ("with a white level of 65536", json.dumps({**right, "white_level": 65536}).encode()),
    ):
        request = _process_of(peer, metadata=metadata)
        try:
            peer.refused(request.id, wire.encode(request), ("bad_raw",))
        except NoAnswerError:
            raise
        except NotMetError as error:
            raise NotMetError(f"metadata {what}: {error}") from error


def _odd_size(peer: Peer) -> None:
    payload = bytes(_process_of(peer).payload)
    none = () if peer.info.holds else (0,)  # asks for a RAW that is held
    for size in (*none, len(payload) - 2, len(payload) - 1):
        request = _process_of(peer, payload=payload[:size])
        peer.refused(request.id, wire.encode(request), ("bad_raw", "bad_message") if not size else ("bad_raw",))


def _too_large(peer: Peer) -> None:
    request = _process_of(peer)
    parts = wire.encode(request)
    size = peer.info.max_payload + 2
    # A payload of the claimed size is sent only where it is small; the claim alone must do.
    really = size <= 4 * len(request.payload)
    header = msgpack.packb({**msgpack.unpackb(parts[0]), "payload_size": size})
    codes = ("too_large",) if really else ("too_large", "bad_message")
    peer.refused(request.id, [header, bytes(size) if really else parts[1]], codes)


def _not_taken(peer: Peer) -> None:
    needs(not peer.info.live, "a live device takes no RAW")
    raw, taken = peer.raw, peer.info.input
    variants = [dataclasses.replace(raw, cfa=cfa) for cfa in CFA_PATTERNS]
    variants += [dataclasses.replace(raw, white_level=1 << taken.depth)] if taken.depth < 16 else []
    side = tile_side(raw.cfa)
    for height, width in ((raw.height, raw.width - side), (raw.height - side, raw.width)):
        if min(height, width) >= side:
            variants.append(dataclasses.replace(raw, mosaic=raw.mosaic[:height, :width].copy()))
    refused = [(reason, variant) for variant in variants if (reason := taken.refusal(variant))]
    for reason, variant in refused:
        request = wire.process_request(peer.new_id(), variant, peer.far(0.6).items(), taken)
        try:
            peer.refused(request.id, wire.encode(request), ("bad_raw",))
        except NoAnswerError:
            raise
        except NotMetError as error:
            raise NotMetError(f"a RAW of which INFO rules out that {reason}: {error}") from error


REQUIREMENTS = (
    Requirement("A RAW that INFO rules out is refused", "4, 9", _not_taken),
    Requirement("A damaged RAW is refused", "7, 9", _damaged),
    Requirement("Odd RAW metadata is refused", "7, 9", _odd_metadata),
    Requirement("A payload that is not width × height pixels is refused", "7, 9", _odd_size),
    Requirement("A payload above max_payload is refused", "4, 9", _too_large),
)
