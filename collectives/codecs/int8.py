"""int8: see small_ints.py."""

import numpy as np

from collectives.codecs.small_ints import SmallInts


class Int8(SmallInts):
    name = "int8"
    bits = 8
    dtype = np.int8
