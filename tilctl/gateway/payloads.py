"""What is published, as bytes: JSON, events as structured CloudEvents, readings with the moment of their source."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta

from devices.reading import Reading
from tilctl.commands.envelope import rfc3339
from tilctl.gateway.outbox import Scan, Stream
from tilctl.gateway.topics import Topics
from tilctl.journal.chain import Record

MAX_PACKET = 60 * 1024
"""Largest event that is published whole; brokers are set to 64 KiB."""


def encode(value: object) -> bytes:
    """Return a payload; raises ValueError for NaN, which is never published."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def event_payload(topics: Topics, stream: Stream, record: Record) -> bytes:
    """Return a record as a structured CloudEvent; one too large for the brokers goes without its data, and says so."""
    event = dataclasses.asdict(record.event)
    envelope = {
        "specversion": "1.0",
        "id": f"{stream.batch}/{record.seq}",
        "source": f"{topics.prefix}/{stream.unit}",
        "type": f"til.evt.{record.event.kind}.v1",
        "subject": stream.batch,
        "time": record.t,
        "datacontenttype": "application/json",
        "seq": record.seq,
        "prevhash": record.prev,
        "hash": record.hash,
        "data": event,
    }
    payload = encode(envelope)
    if len(payload) <= MAX_PACKET:
        return payload
    envelope["data"] = {"kind": record.event.kind, "omitted": f"{len(payload)} bytes: read it in the batch file"}
    return encode(envelope)


def value_payload(scan: Scan, reading: Reading) -> bytes:
    """Return a reading as it is published, its source time as a moment."""
    at: datetime = scan.now + timedelta(seconds=reading.at - scan.monotonic)
    value = {"value": reading.value, "unit": reading.unit, "quality": reading.quality.value, "t": rfc3339(at)}
    return encode(value)
