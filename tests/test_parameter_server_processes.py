"""The parameter server in real trainers: one is killed, its backups go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training_harness import Spare, finish, job, stage

pytestmark = pytest.mark.processes

STEPS = 16
MIDDLE = 5
EPOCHS = 8  # asynchronously it takes longer to get there


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spare]:
    made = Spare(tmp_path_factory.mktemp("spare") / "log")
    yield made
    made.close()


def test_kill_9_of_a_server_and_a_joiner(spare: Spare, tmp_path: Path) -> None:
    with stage(spare, tmp_path / "ring") as play:
        (alone,) = play.ready("alone", spec=job(steps=STEPS))
        play.generation(alone, mark_every_s=60.0)
        undisturbed = finish(alone)
    with stage(spare, tmp_path / "server") as play:
        spec = job(steps=STEPS, strategy="parameter-server", checkpoint_every=MIDDLE)
        a, b, c = play.ready("a", "b", "c", spec=spec)
        play.generation(a, b, c, mark_every_s=60.0)
        a.wait("checkpoint", lambda m: m["step"] == MIDDLE)
        b.kill()
        play.generation(a, c, mark_every_s=0.0)
        entered = c.wait("entered", lambda m: m["generation"] == play.number)
        assert entered["received"] in (None, "result")  # promoted: nothing had to be given
        (d,) = play.ready("d", spec=spec)
        play.generation(a, d, c, mark_every_s=0.2)
        last = finish(a, d, c)
        for field in ("state_hash", "samples", "metrics", "ledger", "loss"):
            assert last[field] == undisturbed[field], field


def test_kill_9_in_the_midst_of_a_window(spare: Spare, tmp_path: Path) -> None:
    with stage(spare, tmp_path) as play:
        options = {"staleness": "3"}
        spec = job(steps=EPOCHS * 24, strategy="parameter-server", options=options)
        a, b, c = play.ready("a", "b", "c", spec=spec)
        play.generation(a, b, c, mark_every_s=0.0)
        a.wait("mark", lambda m: m["step"] >= MIDDLE)
        b.kill()
        play.generation(a, c, mark_every_s=0.0)
        last = finish(a, c)
        assert [line["repeated"] + line["missing"] for line in last["ledger"]] == [0] * EPOCHS
        assert last["metrics"]["accuracy"] > 0.9
        assert "at most 3 allowed" in last["notices"][0]["text"]
