"""For the tools that people have: Prometheus' endpoint and TensorBoard's event files."""

import sys
import urllib.request
from pathlib import Path

import pytest

from p2p.errors import P2PError, Usage
from p2p.listen_at import parse
from p2p.measure.catalog import CATALOG
from p2p.measure.prometheus import Endpoint, exposed
from p2p.training.tensorboard import EventFiles
from p2p.verbs.scalars import over_steps


@pytest.mark.parametrize(
    ("text", "address"),
    [("9100", ("127.0.0.1", 9100)), ("0.0.0.0:0", ("0.0.0.0", 0)), ("::1:9", ("::1", 9))],
)
def test_metrics_port_is_on_loopback_unless_said(text: str, address: tuple[str, int]) -> None:
    assert parse(text, "--metrics-port") == address


@pytest.mark.parametrize("text", ["", "x", "1:", "70000", "-1", "9100/metrics"])
def test_what_is_no_metrics_port(text: str) -> None:
    with pytest.raises(Usage, match="--metrics-port"):
        parse(text, "--metrics-port")


def test_prometheus_reads_what_was_measured_last() -> None:
    names = [exposed(metric) for metric in CATALOG]
    assert len(set(names)) == len(names)
    endpoint = Endpoint("0")
    try:
        with pytest.raises(P2PError, match="another --metrics-port"):
            Endpoint(str(endpoint.port))
        assert scraped(endpoint) == []
        endpoint.newest = lambda: {
            "system.cpu_percent": 12.5,
            "job.job-1.metric.top 5": 0.5,
            "link.b.round_trip_s": 0.25,
            "gpu.0.busy_percent": 99.0,
            "link.all_reconnects": 2.0,
        }
        assert scraped(endpoint) == [
            'p2p_gpu_busy_percent{gpu="0"} 99.0',
            'p2p_job_metric{job="job-1",name="top 5"} 0.5',
            "p2p_link_all_reconnects 2.0",
            'p2p_link_round_trip_s{peer="b"} 0.25',
            "p2p_system_cpu_percent 12.5",
        ]
    finally:
        endpoint.close()


def scraped(endpoint: Endpoint) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sorted(line for line in lines if not line.startswith("#"))


def test_without_the_packages_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(P2PError, match="pip install prometheus_client"):
        Endpoint("0")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(P2PError, match="pip install tensorboard"):
        EventFiles(tmp_path)


SERIES = {
    "job.j.step": {"points": [[1.0, 1, 5, 3, 5], [2.0, 6, 9, 8, 9]]},
    "job.j.loss": {"points": [[0.5, 3, 3, 3, 3], [1.0, 1, 9, 4, 2], [2.0, 1, 1, 1, 1]]},
    "job.other.loss": {"points": [[1.0, 1, 1, 1, 1]]},
}


def test_series_over_steps_keep_their_peaks() -> None:
    told = dict(over_steps("j", SERIES, 0.5, 9.0))
    assert told == {
        "loss": [(5, 4, 1.0), (9, 1, 2.0)],
        "loss.max": [(5, 9, 1.0), (9, 1, 2.0)],
        "loss.min": [(5, 1, 1.0), (9, 1, 2.0)],
    }
    assert dict(over_steps("j", SERIES, 1.5, 9.0)) == {"loss": [(9, 1, 2.0)]}
    assert dict(over_steps("j", {"job.j.loss": SERIES["job.j.loss"]}, 0.0, 9.0)) == {}


def test_event_files_are_a_folder_per_run(tmp_path: Path) -> None:
    with EventFiles(tmp_path) as files:
        assert files.add("a", "loss", [(1, 0.5, 10.0), (2, 0.25, 11.0)]) == 2
    (written,) = (tmp_path / "a").glob("events.out.tfevents.*")
    assert written.read_bytes().count(b"loss") == 2
    (tmp_path / "file").touch()
    with EventFiles(tmp_path / "file") as files, pytest.raises(P2PError, match="cannot write"):
        files.add("a", "loss", [])
