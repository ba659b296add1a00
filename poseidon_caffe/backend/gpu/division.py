"""Divisors as kernels want them: a multiplication and a shift instead of a division."""

from __future__ import annotations

from functools import cache

from poseidon_caffe.types import Shape

__all__ = ["divider", "order_numbers"]

_WORD = 1 << 32


@cache
def divider(number: int) -> int:
    """The code of a ``Divisor`` of common.cuh: its factor, and its shift above that.

    For 0 <= n < 2^31, n // number is ``(n * factor >> 32) + n >> shift`` (Granlund
    and Montgomery 1994).

    Args:
        number: 1 to 2^31 - 1; 0 counts as 1, as there is nothing to divide then.
    """
    number = max(number, 1)
    shift = (number - 1).bit_length()
    factor = _WORD * ((1 << shift) - number) // number + 1
    return shift * _WORD + factor


def order_numbers(channels: int, places: int, *, channels_last: bool) -> Shape:
    """What ``ORDER_PARAMETERS`` of common.cuh are: how an index tells a place.

    Args:
        channels: of an image.
        places: of a plane.
        channels_last: whether the channels of a place are neighbours.
    """
    inner, outer = (channels, places) if channels_last else (places, channels)
    return inner, divider(inner), outer, divider(outer), int(channels_last)
