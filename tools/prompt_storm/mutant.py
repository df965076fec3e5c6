"""Replicas that are broken, so that the audit can show that it sees it: who goes on with another's
answer keeps the first token to himself, and does not count it.

Installed in the peers' processes, whose children are forks of theirs, by a `sitecustomize`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def break_peers(folder: Path) -> None:
    """All that this process starts from now on. `folder` is its own and there yet to be made."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from tools.prompt_storm.mutant import drop_a_token\ndrop_a_token()\n"
    )
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def drop_a_token() -> None:
    from p2p.serving.desk import Desk
    from p2p.serving.messages import Done, Generate, Tokens

    dropped: set[str] = set()
    resumed: set[str] = set()
    take, computed = Desk.take, Desk.computed

    def takes(self: Any, order: Any) -> list[Any]:
        if isinstance(order, Generate) and order.sent:
            resumed.add(order.request)
        return take(self, order)

    def without_first(self: Any, rows: Sequence[Any], scores: Any, seconds: float) -> list[Any]:
        told: list[Any] = []
        for news in computed(self, rows, scores, seconds):
            if isinstance(news, Tokens):
                first = {stream.request for stream in news.streams} & resumed - dropped
                dropped.update(first)
                kept = tuple(stream for stream in news.streams if stream.request not in first)
                told.append(replace(news, streams=kept))
            elif isinstance(news, Done) and news.request in dropped:
                told.append(replace(news, completion_tokens=news.completion_tokens - 1))
            else:
                told.append(news)
        return told

    Desk.take, Desk.computed = takes, without_first  # type: ignore[method-assign]
