"""What this peer measured, for Prometheus: an HTTP endpoint with a thread of its own.

prometheus_client is imported only where it is asked for. The thread reads what the peer published
last, a mapping that is replaced and never changed, so nothing is locked and nobody waits.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from p2p.errors import P2PError
from p2p.listen_at import in_url, parse
from p2p.measure.catalog import CATALOG, Metric, parts_of

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

PREFIX = "p2p_"


class Endpoint:
    """`newest` is set when there is a peer. Raises P2PError when prometheus_client is missing or
    the port cannot be had, so that nothing has been begun then."""

    def __init__(self, text: str) -> None:
        self.newest: Callable[[], Mapping[str, float]] = dict
        host, port = parse(text, "--metrics-port")
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise P2PError(
                "--metrics-port needs prometheus_client: pip install prometheus_client"
            ) from error
        registry = CollectorRegistry()
        registry.register(_Collector(lambda: self.newest()))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except (OSError, OverflowError) as error:
            at = in_url(host, port)
            raise P2PError(
                f"cannot serve metrics on {at} ({error}): give another --metrics-port"
            ) from error
        self.port = int(self._server.server_port)
        self.url = f"http://{in_url(host, self.port)}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collector:
    def __init__(self, newest: Callable[[], Mapping[str, float]]) -> None:
        self._newest = newest

    def collect(self) -> "Iterator[GaugeMetricFamily]":
        from prometheus_client.core import GaugeMetricFamily

        newest = self._newest()
        for metric in CATALOG:
            label_names, samples = _samples(metric, newest)
            if samples:
                said = f"{metric.meaning} [{metric.unit}]" if metric.unit else metric.meaning
                family = GaugeMetricFamily(exposed(metric), said, labels=label_names)
                for labels, value in samples:
                    family.add_metric(labels, value)
                yield family


def exposed(metric: Metric) -> str:
    """Its name for Prometheus: `job.<job>.loss` is p2p_job_loss, with the label job."""
    fixed = [part for part in metric.name.split(".") if not part.startswith("<")]
    return PREFIX + "_".join(fixed)


def _samples(
    metric: Metric, newest: Mapping[str, float]
) -> tuple[list[str], list[tuple[list[str], float]]]:
    labels = ["gpu" if word == "n" else word for word in re.findall(r"<(\w+)>", metric.name)]
    if not labels:
        told = newest.get(metric.name)
        return [], [] if told is None else [([], told)]
    found = [(parts_of(metric, name), value) for name, value in newest.items()]
    return labels, [(parts, value) for parts, value in found if parts is not None]
