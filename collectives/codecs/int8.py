"""int8: see small_ints.py."""

import numpy as np

from collectives.codecs.small_ints import SmallInts


class Int8(SmallInts):
    name = "int8"
    summary = "whole numbers of 8 bits, rounded by chance; same bits for any membership"
    bits = 8
    dtype = np.int8
    shards_max = 127  # beyond, a shard would have no level but zero
