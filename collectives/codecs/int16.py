"""int16: see small_ints.py."""

import numpy as np

from collectives.codecs.small_ints import SmallInts


class Int16(SmallInts):
    name = "int16"
    bits = 16
    dtype = np.int16
