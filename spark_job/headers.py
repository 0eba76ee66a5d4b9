"""What a picture file's headers tell of the memory that reading it takes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Marker and first bytes of a segment of a JPEG; the frames' markers, and that of the first scan.
Segment = tuple[int, bytes]
SCAN = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Pillow keeps each segment with its name, however short it is, and joins those of EXIF.
_SEGMENT_COPIES, _SEGMENT_BYTES = 3, 256
# Of a tag: bytes stay bytes, of which there are copies; numbers become a tuple of Python's.
_TEXT_TYPES, _TEXT_COPIES, _NUMBER_BYTES = frozenset((1, 2, 7)), 2, 40
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# EXIF, GPS, interoperability: directories of their own, which Pillow reads too.
_DIRECTORIES = frozenset((34665, 34853, 40965))


def segments(jpeg: bytes) -> Iterator[Segment]:
    """The segments of a JPEG up to that of its first scan; fewer where it is broken."""
    start = 2
    # Source: ITU-T T.81, B.1: segments of FF, marker, two bytes of length (its own included).
    while jpeg[:2] == b"\xff\xd8" and jpeg[start : start + 1] == b"\xff":
        head = jpeg[start + 1 : start + 10]
        if len(head) < 9:
            return
        yield head[0], head[1:]
        if head[0] == SCAN:
            return
        start += 2 + int.from_bytes(head[1:3])


def is_read_at_once(jpeg: bytes) -> bool:
    """Whether the first scan has all components: libjpeg holds a picture in several as a whole."""
    components = 0
    for marker, head in segments(jpeg):
        if marker == SCAN:
            return components == head[2]
        if marker in _FRAMES:
            components = head[7]
    return False


def reading_bytes(content: bytes) -> int:
    """Bytes that opening the file takes beside its own."""
    if content[:2] == b"\xff\xd8":
        lengths = (int.from_bytes(head[:2]) for _, head in segments(content))
        return sum(_SEGMENT_COPIES * length + _SEGMENT_BYTES for length in lengths)
    return tag_bytes(content)


def tag_bytes(tiff: bytes) -> int:
    """Bytes that the tags of a TIFF, or of a block of EXIF, take once they are read."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 0
    needed, own = 0, dict[int, int]()
    for tag, kind, count, offset in _entries(tiff, None, order):
        needed += _entry_bytes(kind, count, tiff)
        if tag in _DIRECTORIES:
            # The first of them counts, as for Pillow: a file may name one thousands of times.
            own.setdefault(tag, offset)
    for start in own.values():
        entries = _entries(tiff, start, order)
        needed += sum(_entry_bytes(kind, count, tiff) for _, kind, count, _ in entries)
    return needed


def _entries(tiff: bytes, start: int | None, order: str) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value or offset of a directory, which is the first unless given.

    None where it lies outside the file.
    """
    is_big = 43 in tiff[2:4]
    pointer, counter, entry = ("Q", "Q", "HHQQ") if is_big else ("I", "H", "HHII")
    try:
        if start is None:
            (start,) = struct.unpack_from(order + pointer, tiff, 8 if is_big else 4)
        (count,) = struct.unpack_from(order + counter, tiff, start)
    except (struct.error, OverflowError):
        return
    start += struct.calcsize(order + counter)
    size = struct.calcsize(order + entry)
    # One at a time: of a file of BigTIFF's millions they would take more than its pixels.
    for number in range(min(count, (len(tiff) - start) // size)):
        yield struct.unpack_from(order + entry, tiff, start + number * size)


def _entry_bytes(kind: int, count: int, tiff: bytes) -> int:
    if kind in _TEXT_TYPES:
        return count * _TEXT_COPIES if count <= len(tiff) else 0
    # Pillow reads none that is longer than its file.
    return count * _NUMBER_BYTES if count * _TYPE_BYTES.get(kind, 1) <= len(tiff) else 0
