"""Compressed streams, recognised by their first bytes: gzip, zstd, xz, bzip2, or none; and gzip and zstd written.

A stream is an iterator of pieces of bytes. No piece that comes out is larger than a megabyte, however
far a hostile input expands, so memory stays bounded; the disk is guarded by whoever writes.
"""

from __future__ import annotations

import queue
import threading
import zlib

from rdock.errors import DataLoss, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, Protocol

    class Compressor(Protocol):
        """What takes a stream in pieces and gives it back compressed, with the rest at its flush."""

        def compress(self, data: bytes, /) -> bytes: ...

        def flush(self) -> bytes: ...


CHUNK = 1 << 20
# Of gzip, for what is compressed here: twice as fast as the usual 6, and the result a twentieth larger.
LEVEL = 4
# Of zstd: its own usual one, which is faster than gzip's at a better result.
_ZSTD_LEVEL = 3
WRITTEN = ("gzip", "zstd")
_XZ_MEMORY = 256 << 20

_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
)
_BZIP2_MARKS = (b"1AY&", b"\x17rE8")


def detect(start: bytes) -> str:
    """The compression of data that begins so; empty for none. Of fewer than eight bytes what it may be.

    A tar archive begins with the name of a file, which may well be BZh or BZh9: of bzip2 that is followed by the mark
    of a block, or of the end.
    """
    for magic, name in _MAGIC:
        if start.startswith(magic):
            is_name = name == "bzip2" and len(start) >= 8 and start[4:8] not in _BZIP2_MARKS
            return "" if is_name else name
    # A zstd stream may begin with a skippable frame, as pzstd writes it.
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"
    return ""


def open_stream(chunks: Iterable[bytes]) -> tuple[str, Iterator[bytes]]:
    """The compression of a stream, and its decompressed content. Errors in the data come up as DataLoss."""
    source = iter(chunks)
    start = b""
    while len(start) < 8 and (more := next(source, b"")):
        start += more
    kind = detect(start)
    everything = _join(start, source)
    return kind, _DECOMPRESSORS[kind](everything) if kind else everything


def _join(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from rest


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    # A file of several members is the members' content joined; zeros between and after them are padding.
    inflater = None
    try:
        for data in chunks:
            while data:
                if inflater is None:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    inflater = zlib.decompressobj(31)
                if piece := inflater.decompress(data, CHUNK):
                    yield piece
                data = inflater.unconsumed_tail
                if inflater.eof:
                    data, inflater = inflater.unused_data, None
    except zlib.error as e:
        raise DataLoss(f"invalid gzip data: {e}") from None
    if inflater is not None:
        raise DataLoss("invalid gzip data: truncated")


def _unxz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import lzma

    def start() -> Any:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    return _decompress(chunks, "xz", start, lzma.LZMAError)


def _bunzip2(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import bz2

    return _decompress(chunks, "bzip2", bz2.BZ2Decompressor, OSError)


def _decompress(
    chunks: Iterator[bytes], name: str, start: Callable[[], Any], error: type[Exception]
) -> Iterator[bytes]:
    """The interface that lzma and bz2 share."""
    decompressor = None
    for data in chunks:
        while data or (decompressor is not None and not decompressor.needs_input):
            if decompressor is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                decompressor = start()
            try:
                piece = decompressor.decompress(data, CHUNK)
            except error as e:
                raise DataLoss(f"invalid {name} data: {str(e).lower()}") from None
            if piece:
                yield piece
            data = b""
            if decompressor.eof:
                data, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise DataLoss(f"invalid {name} data: truncated")


class _Source:
    """An iterator of pieces as the file object that zstandard wants to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.rest = b""

    def read(self, size: int = -1) -> bytes:
        data = self.rest or next(self.chunks, b"")
        self.rest = data[size:] if 0 <= size < len(data) else b""
        return data[: len(data) - len(self.rest)]


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise Unavailable("zstd data needs the Python package zstandard") from None
    # The library refuses windows above 128 MiB by itself. A frame that is cut off ends silently here;
    # the digest of the layer or the end mark of the tar archive tells.
    reader = zstandard.ZstdDecompressor().stream_reader(
        _Source(chunks),  # type: ignore[arg-type]
        read_size=CHUNK,
        read_across_frames=True,
    )
    try:
        while piece := reader.read(CHUNK):
            yield piece
    except zstandard.ZstdError as e:
        raise DataLoss(f"invalid zstd data: {str(e).removeprefix('zstd decompress error: ').lower()}") from None


_DECOMPRESSORS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "gzip": _gunzip,
    "zstd": _unzstd,
    "xz": _unxz,
    "bzip2": _bunzip2,
}


def compressor(kind: str) -> Compressor:
    """One of WRITTEN. Equal streams become equal bytes: no name, no time and no number of processors is in them.

    Zstd works on all processors at once and puts in a checksum. Raises Unavailable where its package is missing.
    """
    if kind == "gzip":
        return zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    assert kind == "zstd"
    try:
        import zstandard
    except ImportError:
        raise Unavailable("zstd data needs the Python package zstandard") from None
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=-1, write_checksum=True).compressobj()


def in_thread(chunks: Iterable[bytes], depth: int = 8) -> Generator[bytes, None, None]:
    """The same stream, produced by a thread: reading, hashing and decompressing run beside the consumer.

    All of these release the interpreter lock. Closing the generator ends the thread; one that sleeps in
    a read of a silent pipe is left behind, and dies with the process.
    """
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def produce() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                ready.put(chunk)
                if stopped.is_set():
                    return
        except BaseException as e:
            end = e
        ready.put(end)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, bytes):
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                # Room for the one piece it may be holding.
                ready.get_nowait()
            except queue.Empty:
                thread.join(0.05)
                if thread.is_alive() and ready.empty():
                    break
