"""The DDP tutorial with two ranks that take themselves for two hosts: by TCP, encrypted.

They listen on 127.0.0.1 and 127.0.0.2. Prints what the tutorial prints, after what rank 0 has seen
of who listens where.
"""

import os
import tempfile
from unittest import mock

import torch.multiprocessing as mp

from p2p.distributed import engine, post, rendezvous
from tests import ddp_tutorial

RANKS = 2


def main(rank: int, init_method: str) -> None:
    os.environ["P2P_TORCH_HOST"] = host = f"127.0.0.{1 + rank}"
    exchange = rendezvous.exchange_endpoints

    def exchange_and_tell(*given: object) -> object:
        planes, mails = exchange(*given)  # type: ignore[arg-type]
        listening = [member.tcp.removeprefix("tcp://").split(":")[0] for member in planes]
        if rank == 0:
            print("p2p from", " to ".join(listening), end="", flush=True)
        return planes, mails

    with (
        mock.patch.object(rendezvous, "host_identity", return_value=host),
        mock.patch.object(post, "host_identity", return_value=host),
        mock.patch("collectives.plane.host_identity", return_value=host),
        mock.patch.object(engine, "exchange_endpoints", exchange_and_tell),
        mock.patch.object(ddp_tutorial.dist, "get_backend", return_value=""),
    ):
        ddp_tutorial.main(rank, "p2p", RANKS, init_method)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(main, (f"file://{folder}/store",), RANKS, start_method="fork")
