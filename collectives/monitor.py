"""What happens to the connections of a ZeroMQ socket, told without a limit.

pyzmq's own monitors hold 1000 events; at a full one, libzmq's I/O thread waits for its reader, and
with it all sockets of the context.
"""

import secrets

import zmq


def watch(socket: "zmq.Socket[bytes]", events: int = zmq.EVENT_ALL) -> "zmq.Socket[bytes]":
    """Tells these events of `socket`; before you close both, `socket.monitor(None, 0)`."""
    address = f"inproc://monitor-{id(socket)}-{secrets.token_hex(4)}"
    socket.monitor(address, events)
    monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
    monitor.rcvhwm = monitor.linger = 0
    monitor.connect(address)
    return monitor
