"""`export tensorboard JOB`: a job's metrics as event files, once or as long as it runs."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from p2p.errors import P2PError
from p2p.measure.history import RESOLUTIONS_S
from p2p.replicated.job_states import FINAL
from p2p.verbs.scalars import over_steps
from p2p.verbs.verb import print_json, say

if TYPE_CHECKING:
    from p2p.client import Client
    from p2p.training.tensorboard import EventFiles

EVERY_S = 2.0
SETTLED_S = 2.0  # a point that began so long ago, and its resolution more, changes no more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="id or name")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="a run per peer")
    parser.add_argument("--watch", action="store_true", help="as long as the job runs")
    add_resolution(parser)


def add_resolution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resolution",
        metavar="S",
        type=int,
        choices=RESOLUTIONS_S,
        help="seconds per point: 1 for ten minutes back, 10 for six hours",
    )


async def export(client: "Client", args: argparse.Namespace) -> int:
    """Raises P2PError when there is nothing to write, or no package to write it with."""
    told = await client.request("job", job=args.job)
    from p2p.training.tensorboard import EventFiles

    with EventFiles(Path(args.output)) as files:
        writing = _Writing(client, files, told["id"], args.resolution)
        while args.watch and told["state"] not in FINAL:
            await writing.go_on(settled=True)
            await asyncio.sleep(EVERY_S)
            told = await client.request("job", job=told["id"])
        await writing.go_on(settled=False)
    if not writing.count:
        raise P2PError(f"no peer has measured {told['id']} in the last six hours")
    if args.json:
        print_json({"job": told["id"], "folder": args.output, "scalars": writing.count})
    else:
        say(f"{writing.count} values of {told['id']}: tensorboard --logdir {args.output}")
    return 0


class _Writing:
    def __init__(
        self, client: "Client", files: "EventFiles", job: str, resolution: int | None
    ) -> None:
        self._client, self._files, self._job = client, files, job
        self._resolution = resolution
        self._after: dict[str, float] = {}  # the newest point that was written, by peer
        self.count = 0

    async def go_on(self, settled: bool) -> None:
        """Write what is new; with `settled` only what cannot change any more."""
        marks = (await self._client.request("history", job=self._job))["points"]
        began = min((mark["at"] for mark in marks), default=None)
        peers = (await self._client.request("status"))["peers"]
        for peer in peers:
            if peer["state"] == "alive":
                await self._of_peer(peer["id"], peer["name"], began, settled)

    async def _of_peer(self, peer: str, name: str, began: float | None, settled: bool) -> None:
        since = self._after.get(peer, None if began is None else began - 60.0)
        try:
            told = await self._client.request(
                "metrics",
                peer=peer,
                names=[f"job.{self._job}.*"],
                since=since,
                resolution=self._resolution,
            )
        except P2PError as error:
            say(f"p2pnode: without {name}: {error}")
            return
        self._resolution = self._resolution or told["resolution"]
        after = self._after.get(peer, float("-inf"))
        until = told["at"] - told["resolution"] - SETTLED_S if settled else float("inf")
        newest = after
        for tag, rows in over_steps(self._job, told["series"], after, until):
            self.count += self._files.add(name, tag, rows)
            newest = max([newest, *(at for _, _, at in rows)])
        if newest > after:
            self._after[peer] = newest
