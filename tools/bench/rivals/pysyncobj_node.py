"""One PySyncObj process for the benchmark: a replicated dictionary, and a socket for its client.

    python -m tools.bench.rivals.pysyncobj_node CLIENT_PORT OWN_ADDRESS OTHER_ADDRESS…

A request is four bytes, the number of the command; its answer is the same number once the command
is applied here, or FAILED. ASK_LEADER is answered by 1 if this process leads, else by 0.
"""

import socket
import struct
import sys
from functools import partial
from typing import Any

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.batteries import ReplDict

from tools.bench.contender import KEYS, VALUE

NUMBER = struct.Struct(">I")
ASK_LEADER = 0xFFFFFFFF
FAILED = 0xFFFFFFFE


def main(arguments: list[str]) -> None:
    port, own, *others = arguments
    values = ReplDict()
    node = SyncObj(own, others, conf=SyncObjConf(), consumers=[values])
    with socket.create_server(("127.0.0.1", int(port))) as server:
        while True:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client:
                _serve(client, node, values)


def _serve(client: socket.socket, node: Any, values: Any) -> None:
    def answer(number: int, result: object, error: int) -> None:
        client.sendall(NUMBER.pack(FAILED if error else number))

    got = b""
    while data := client.recv(65_536):
        got += data
        while len(got) >= NUMBER.size:
            (number,) = NUMBER.unpack_from(got)
            got = got[NUMBER.size :]
            if number == ASK_LEADER:
                leads = node._getLeader() is not None and node._isLeader()
                client.sendall(NUMBER.pack(int(leads)))
            else:
                values.set(f"k{number % KEYS}", VALUE, callback=partial(answer, number))


if __name__ == "__main__":
    main(sys.argv[1:])
