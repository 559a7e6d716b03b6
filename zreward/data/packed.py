"""A picture that lies inside a larger file, such as a tar shard: it is read from its place, and nothing is unpacked."""

from __future__ import annotations

from dataclasses import dataclass

from zreward.common.errors import InputError


@dataclass(frozen=True, slots=True)
class PackedImage:
    """The encoded bytes of one picture in a file.

    Args:
        path: the file.
        name: what the picture is called in there.
        offset: its first byte.
        size: how many bytes it has.
    """

    path: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"

    def read(self) -> bytes:
        """InputError where the file is gone, or shorter than it was when the picture was found."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if len(content) < self.size:
            raise InputError(f"{self.path} ends inside it; the file was cut off or replaced: get it again")
        return content
