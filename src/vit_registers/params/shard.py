"""A part of an extraction, as params, jobs and folders name it."""

from dataclasses import dataclass

from vit_registers.core.errors import InputError


@dataclass(frozen=True)
class Shard:
    """One of ``of`` parts, counted from 1: ``2-of-3`` as text. By default all there is."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Inverse of ``str``; :class:`InputError` for what is none."""
        number, separator, of = text.partition("-of-")
        if not separator or not number.isdecimal() or not of.isdecimal() or not 1 <= int(number) <= int(of):
            raise InputError(f"shard '{text}': expected one such as 2-of-3")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.number}-of-{self.of}"


def shards(count: int) -> list[Shard]:
    """All of ``count`` parts."""
    return [Shard(number, count) for number in range(1, count + 1)]
