"""What a service and its reading processes say to each other, over sockets that they pass on."""

import asyncio
import socket
from typing import Any

import msgspec

CHANNEL, GO, READY, DAMAGED = b"c", b"g", b"r", b"d"
"""What one side says to the other: here is a channel; the record is open; I read; it is damaged."""

SIZE_BYTES = 4
"""How many bytes the length of a message has."""


def receive(control: socket.socket) -> tuple[bytes | None, socket.socket | None]:
    """Return what the other side says, and the channel that it gives; None if it says nothing."""
    try:
        said, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    except BlockingIOError:
        return None, None
    except OSError:
        return b"", None
    return said, socket.socket(fileno=descriptors[0]) if descriptors else None


def pack(content: Any) -> bytes:
    """Make a message."""
    return msgspec.msgpack.encode(content)


async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Send a message, or a piece of an answer."""
    writer.write(len(body).to_bytes(SIZE_BYTES, "big"))
    writer.write(body)
    await writer.drain()


async def read(reader: asyncio.StreamReader) -> bytes:
    """Read what `write` wrote; `EOFError` if the other side has ended."""
    size = int.from_bytes(await reader.readexactly(SIZE_BYTES), "big")
    return await reader.readexactly(size)
