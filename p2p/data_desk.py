"""This peer's copies of datasets: checked before a job trains, fetched where there is none.

All reading is done by a child (p2p.datasets.worker). What p2p.agent decides about a job without its
data comes here again at every plan, until there is a verdict.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2p.agent import DataVerdict
from p2p.content.contract import Content
from p2p.datasets.builtin import is_builtin
from p2p.errors import P2PError, from_wire
from p2p.fetching import Fetching
from p2p.find import find_dataset
from p2p.replicated.state import Dataset, Job, State
from p2p.workers import Workers

FETCH_FAILURES_MAX = 6
ANSWERS_KEPT_MAX = 16


@dataclass
class _Copy:
    """`checks` = how many verdicts there were; the last one is `path` or `problem`."""

    checks: int = 0
    path: str | None = None
    problem: str = ""
    missing: Mapping[str, int] = field(default_factory=dict)  # hashes and bytes, to be fetched
    is_checking: bool = False
    was_looked_for: bool = False


class DataDesk:
    """`home` is the peer's data directory, `changed` is called when there is news."""

    def __init__(
        self,
        home: str,
        content: Content,
        fetching: Fetching,
        workers: Workers,
        changed: Callable[[], None],
    ) -> None:
        self.verdicts: dict[str, DataVerdict] = {}  # by job
        self._home = home
        self._content = content
        self._fetching = fetching
        self._workers = workers
        self._changed = changed
        self._copies: dict[str, _Copy] = {}  # by manifest
        self._due: dict[str, int] = {}  # by job, the check of its copy that counts
        self._known: Mapping[str, Dataset] = {}
        self._answers: dict[str, Mapping[str, Any] | None] = {}  # of questions; None = not yet

    # -- for jobs -------------------------------------------------------------------------------

    def prepare(self, state: State, job: Job) -> None:
        """A verdict on this job's data shall come about; call it again until there is one."""
        named = job.spec["dataset"]
        dataset = state.datasets.get(str(named["name"]))
        if dataset is None or dataset.manifest != named["manifest"]:
            problem = f"dataset {named['name']} is not registered as it was"
            self.verdicts[job.id] = DataVerdict(problem=problem)
            return
        copy = self._copies.setdefault(dataset.manifest, _Copy())
        due = self._due.setdefault(job.id, copy.checks + 1)
        if copy.checks < due:
            self._check(copy, dataset, state, may_fetch=True)
            return
        path = None if is_builtin(dataset.where) and not self._is_made(copy) else copy.path
        self.verdicts[job.id] = DataVerdict(path, copy.problem)

    def follow(self, state: State) -> None:
        """Forget jobs that ended, and copies that vanished. As datasets come and go, check and
        offer the copies, or remove them.
        """
        for job in [*self.verdicts, *self._due]:
            held, path = state.jobs.get(job), self.verdicts.get(job, DataVerdict()).path
            if held is None or held.is_final or (path is not None and not os.path.exists(path)):
                self.verdicts.pop(job, None)
                self._due.pop(job, None)
        known, self._known = self._known, state.datasets
        manifests = {dataset.manifest for dataset in state.datasets.values()}
        if known is not state.datasets:
            for gone in {dataset.manifest for dataset in known.values()} - manifests:
                self._remove(gone)
        for dataset in state.datasets.values():
            copy = self._copies.setdefault(dataset.manifest, _Copy())
            if not copy.was_looked_for:
                copy.was_looked_for = True
                if self._content.find(dataset.manifest) is not None:
                    self._check(copy, dataset, state, may_fetch=False)

    def standing(self, dataset: Dataset) -> str:
        """What this peer has of it: verified, fetching, absent, or what is wrong."""
        copy = self._copies.get(dataset.manifest)
        lacked = [dataset.manifest, *(copy.missing if copy else ())]
        told = next(filter(None, map(self._fetching.problem, lacked)), None)
        if copy is not None and told and not copy.problem:
            return f"fetching, so far in vain: {told}"
        if copy is None or not (copy.checks or copy.is_checking or copy.missing):
            return "absent"
        if copy.missing or copy.is_checking:
            return "fetching" if copy.missing else "checking"
        return copy.problem or "verified"

    # -- questions ------------------------------------------------------------------------------

    def scan(self, where: str, format_: str | None) -> Mapping[str, Any] | None:
        """What is there, once it has been read; None until then. Raises P2PError, once."""
        order = {"kind": "register", "where": where, "format": format_, **self._folders()}
        return self._ask(f"scan {format_} {where}", order)

    def scan_model(self, where: str, whole: bool) -> Mapping[str, Any] | None:
        """The weights there, or the `whole` folder, once they have been hashed; None until then.
        Raises P2PError, once.
        """
        order = {"kind": "model", "where": where, "whole": whole}
        return self._ask(f"model {whole} {where}", order)

    def preview(self, state: State, name: str, limit: int) -> Mapping[str, Any] | None:
        """The first samples; None until they were read. Raises P2PError, once."""
        dataset = find_dataset(state, name)
        copy = self._copies.get(dataset.manifest)
        if copy is not None and copy.is_checking:
            return None
        if copy is None or copy.path is None:
            raise P2PError(f"this peer has no checked copy of {name} ({self.standing(dataset)})")
        order = {"kind": "preview", "format": dataset.format, "limit": limit, "path": copy.path}
        return self._ask(
            f"preview {limit} {dataset.manifest}",
            {**order, "manifest": f"{self._home}/content/{dataset.manifest}"},
        )

    def _ask(self, key: str, order: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if key not in self._answers:
            while len(self._answers) >= ANSWERS_KEPT_MAX:
                del self._answers[next(iter(self._answers))]  # its asker has given up
            self._answers[key] = None
            self._workers.run(order, lambda answer: self._keep(key, answer))
        answer = self._answers[key]
        if answer is None:
            return None
        del self._answers[key]
        if "error" in answer:
            raise from_wire(dict(answer))
        return answer

    def _keep(self, key: str, answer: Mapping[str, Any]) -> None:
        if key in self._answers:
            self._answers[key] = answer

    # -- copies ---------------------------------------------------------------------------------

    def _check(self, copy: _Copy, dataset: Dataset, state: State, may_fetch: bool) -> None:
        if copy.is_checking:
            return
        wanted = {dataset.manifest: dataset.manifest_bytes, **copy.missing}
        if may_fetch:
            lacks = [
                sha256
                for sha256, size in wanted.items()
                if self._fetching.want(state, sha256, size) is None
            ]
            for sha256 in lacks:
                if self._fetching.failures(sha256) >= FETCH_FAILURES_MAX:
                    problem = self._fetching.problem(sha256)
                    self._judge(copy, None, f"cannot get dataset {dataset.name}: {problem}")
                    return
            if lacks:
                return
        copy.is_checking, copy.missing = True, {}
        order = {"kind": "place", "where": dataset.where, "target": self._target(dataset.manifest)}
        order |= {"manifest": f"{self._home}/content/{dataset.manifest}", **self._folders()}
        self._workers.run(order, lambda answer: self._on_checked(copy, dataset, answer))

    def _on_checked(self, copy: _Copy, dataset: Dataset, answer: Mapping[str, Any]) -> None:
        copy.is_checking = False
        if "error" in answer:
            self._judge(copy, None, str(answer["error"]))
        elif answer["missing"]:
            copy.missing = dict(answer["missing"])
            self._changed()
        elif answer["path"] is None:
            self._judge(copy, None, f"its copy of {dataset.name} differs: {answer['differs']}")
        else:
            self._judge(copy, str(answer["path"]), "")
            self._content.offer_tree(dataset.manifest, str(answer["path"]))

    def _judge(self, copy: _Copy, path: str | None, problem: str) -> None:
        copy.checks += 1
        copy.path, copy.problem = path, problem
        copy.missing = {}
        self._changed()

    def _remove(self, manifest: str) -> None:
        """The dataset was dropped: what was fetched and made here goes, the user's own stays."""
        if self._copies.pop(manifest, None) is None:
            return
        self._content.withdraw_tree(manifest)
        order = {"kind": "remove", "target": self._target(manifest), **self._folders()}
        if self._content.find(manifest) is not None:
            order["manifest"] = f"{self._home}/content/{manifest}"
        self._workers.run(order, lambda answer: self._fetching.forget(manifest))

    def _is_made(self, copy: _Copy) -> bool:
        return copy.path is not None and copy.path.startswith(f"{self._home}/datasets/")

    def _target(self, manifest: str) -> str:
        return f"{self._home}/datasets/{manifest[:16]}"

    def _folders(self) -> dict[str, str]:
        return {"content": f"{self._home}/content", "datasets": f"{self._home}/datasets"}
