"""A model that real peers trained is served, and peers are killed in the middle of an answer."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from p2p.client import Client
from p2p.generation import Generation
from p2p.local_cluster import LocalCluster, LocalPeer
from tests.cluster_fixtures import p2pnode, wait_end, wait_for
from tools.terminal import PATIENCE_S, Terminal
from tui.connect import ClusterSource

SMALL = [f"--set={name}" for name in ("width=32", "layers=1", "heads=2", "context=512")]
ASKED: dict[str, Any] = {"max_tokens": 450, "temperature": 1.0, "seed": 5}
IDS_BETWEEN_DEATHS = 40


def trained_and_served(cluster: LocalCluster) -> None:
    steps = ["--steps", "2", "--peers", "2:2", "--global-batch", "12"]
    job = p2pnode(cluster, "submit", "textgpt", *SMALL, *steps, "--json").json["job"]
    assert wait_end(cluster, job)["state"] == "finished"
    done = p2pnode(cluster, "serve", f"job:{job}", "--name", "tales", "--replicas", "2:2")
    assert done.code == 0, done.err
    wait_for(cluster, "models", lambda told: len(told["models"][0]["replicas"]) == 2)


def without_the_dead(cluster: LocalCluster) -> None:
    """Peers that earlier tests killed are removed, as `verify` says."""
    for peer in p2pnode(cluster, "status", "--json").json["peers"]:
        if peer["state"] == "dead":
            done = p2pnode(cluster, "remove", peer["name"])
            assert done.code == 0, done.err
    wait_for(cluster, "status", lambda told: all(p["state"] == "alive" for p in told["peers"]))


def front_of(cluster: LocalCluster) -> LocalPeer:
    """The peer that has no replica."""
    told = wait_for(cluster, "models", lambda told: told["models"])["models"][0]
    hosts = {replica["peer"] for replica in told["replicas"]}
    return next(peer for peer in cluster.peers if peer.is_running and peer.id not in hosts)


def answer_while_peers_die(
    cluster: LocalCluster, front: LocalPeer
) -> tuple[str, Generation, list[LocalPeer]]:
    """The peer of the replica is killed after some ids, the one that was asked after some more."""
    others = [peer.address for peer in cluster.peers if peer.is_running and peer is not front]

    async def main() -> tuple[str, Generation, list[LocalPeer]]:
        client = Client([front.address, *others], cluster.key, 20.0)
        asked = client.generate("def main", model="tales", **ASKED)
        text = ""
        killed: list[LocalPeer] = []
        async for piece in asked:
            text += piece
            if len(asked.told_ids) >= IDS_BETWEEN_DEATHS * (len(killed) + 1) and len(killed) < 2:
                running = [peer for peer in cluster.peers if peer.is_running]
                host = next(p for p in running if p.id == asked.answering["peer"])
                killed.append(front if killed else host)
                killed[-1].kill()
        await client.close()
        return text, asked, killed

    return asyncio.run(main())


def undisturbed(cluster: LocalCluster, front: LocalPeer) -> str:
    """By the iterator for code without an event loop."""
    client = Client([front.address], cluster.key, 20.0)
    text = "".join(client.generate("def main", model="tales", **ASKED))
    asyncio.run(client.close())
    return text


def as_the_screen_asks(cluster: LocalCluster, front: LocalPeer) -> str:
    """Over the connections that p2ptui makes for answers, beside its requests."""

    async def main() -> str:
        source = ClusterSource(front.address, cluster.peers[0].told["token_file"])
        try:
            asked = await source.generate("def main", model="tales", **ASKED)
            text = [piece async for piece in asked]
            await source.request("models")
            assert asked.end is not None
            assert asked.end.completion_tokens == ASKED["max_tokens"]
            return "".join(text)
        finally:
            await source.close()

    return asyncio.run(main())


def conversation_at_a_terminal(cluster: LocalCluster) -> None:
    """`p2pnode prompt` as a person has it: answers, commands, a history, Ctrl-C and Ctrl-D."""
    words = ["--temperature", "1", "--seed", "5", "--max-tokens", "40"]
    program = [sys.executable, "-P", "-m", "p2p.cli", "prompt", *words]
    with Terminal(program, (100, 300), cluster.environment) as terminal:

        def say(keys: str, expected: str) -> None:
            """Until it is there once more, and the next line can be typed."""
            seen = terminal.text().count(expected)
            terminal.type(keys)
            terminal.until(
                lambda text: text.count(expected) > seen and text.rstrip().endswith("\n>")
            )

        terminal.until(lambda text: "models: tales; `help` says" in text and "\n>" in text)
        say("status\r", "ACCURACY")
        say("actors\r", "REPLICA")
        say("models\r", "PARAMETERS")
        say("test\r", "tales: '")
        say("help\r", "Ctrl-C stops an answer")
        say("def main\r", "40 tokens in")
        say("\x1b[A\r", "40 tokens in")  # the prompt before
        asked = terminal.text().partition("> def main\n")[2].split("> def main\n")
        answers = [text.partition("[tales on ")[0] for text in asked]
        assert answers[0] == answers[1] != ""
        with replicas_that_stand_still(cluster):
            type_and_wait_until_it_is_read(terminal, "def main\r")
            say("\x03", "[stopped]")
        say("\x03", "\n>")  # nothing to stop, and it goes on
        say("def main\r", "40 tokens in")
        terminal.type("\x04")
        assert terminal.wait() == 0
        terminal.drain()
        assert terminal.attributes() == terminal.attributes_before
        assert not terminal.modes_left_on()


def type_and_wait_until_it_is_read(terminal: Terminal, keys: str) -> None:
    """Until the line's editor has given the terminal back, and the program waits for something
    else: as long as it reads the line, Ctrl-C only drops that."""

    def until(is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline_s, terminal.text()
            time.sleep(0.005)

    until(lambda: terminal.attributes() != terminal.attributes_before)
    terminal.type(keys)
    until(lambda: terminal.attributes() == terminal.attributes_before)
    until(lambda: psutil.Process(terminal.pid).status() == psutil.STATUS_SLEEPING)


@contextlib.contextmanager
def replicas_that_stand_still(cluster: LocalCluster) -> Iterator[None]:
    """All children of the peers: nothing is answered."""
    running = [peer.process.pid for peer in cluster.peers if peer.is_running]
    children = [each for pid in running for each in psutil.Process(pid).children(recursive=True)]
    for child in children:
        child.suspend()
    try:
        yield
    finally:
        for child in children:
            child.resume()
