"""The protocol's 32-bit floating-point number.

7 bits of exponent and 25 of coefficient, both two's complement, no hidden bit: value = c * 2^(e-25).
Encoding is bit-exact with chrony's; decoding accepts any coefficient, normalised or not.
"""

import math

_EXPONENT_BITS = 7
_COEFFICIENT_BITS = 25
_EXPONENT_MAX = 63
_EXPONENT_MIN = -64
_COEFFICIENT_MAX = (1 << (_COEFFICIENT_BITS - 1)) - 1
_COEFFICIENT_MASK = (1 << _COEFFICIENT_BITS) - 1


def decode_float(word: int) -> float:
    """Value of a 32-bit word; every word is valid."""
    exponent = word >> _COEFFICIENT_BITS
    if exponent > _EXPONENT_MAX:
        exponent -= 1 << _EXPONENT_BITS
    coefficient = word & _COEFFICIENT_MASK
    if coefficient > _COEFFICIENT_MAX:
        coefficient -= 1 << _COEFFICIENT_BITS
    return math.ldexp(coefficient, exponent - _COEFFICIENT_BITS)


def encode_float(value: float) -> int:
    """The 32-bit word nearest to `value`; NaN gives 0, what is too large the largest number."""
    if value != value:
        return 0
    negative = value < 0.0
    magnitude = -value if negative else value
    limit = _COEFFICIENT_MAX + negative
    if magnitude < 1e-100:
        return 0
    if magnitude > 1e100:
        exponent, coefficient = _EXPONENT_MAX, limit
    else:
        # The quotient of logarithms, not frexp: at powers of two it decides as chrony does.
        exponent = int(math.log(magnitude) / math.log(2.0) + 1.0)
        coefficient = int(magnitude * math.ldexp(1.0, _COEFFICIENT_BITS - exponent) + 0.5)
        while coefficient > limit:
            coefficient >>= 1
            exponent += 1
        if exponent > _EXPONENT_MAX:
            exponent, coefficient = _EXPONENT_MAX, limit
        elif exponent < _EXPONENT_MIN:
            if exponent + _COEFFICIENT_BITS >= _EXPONENT_MIN:
                coefficient >>= _EXPONENT_MIN - exponent
                exponent = _EXPONENT_MIN
            else:
                exponent = coefficient = 0
    if negative:
        coefficient = -coefficient
    return (exponent & ((1 << _EXPONENT_BITS) - 1)) << _COEFFICIENT_BITS | (coefficient & _COEFFICIENT_MASK)
