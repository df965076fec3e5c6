"""What the leader tells all others about all of them: short, the newest only, may be lost. Pure."""

from collections.abc import Mapping
from typing import Any

from p2p.measure.told import parse_table, to_table
from p2p.reports import check_trainer_message, parse_device, parse_gpus
from p2p.view import Vitals
from p2p.wire.envelope import Malformed


def to_wire(vitals: Mapping[str, Vitals]) -> dict[str, Any]:
    rows = {
        peer: [
            *(told.rss, round(told.cpu_percent, 1), told.suspect, dict(told.trainers)),
            *(told.device, [dict(gpu) for gpu in told.gpus]),
        ]
        for peer, told in vitals.items()
    }
    figures = {peer: told.figures for peer, told in vitals.items()}
    return {"vitals": rows, "figures": to_table(figures)}


def parse(body: Mapping[str, Any]) -> dict[str, Vitals]:
    """Raises Malformed."""
    figures = parse_table(body.get("figures"))
    try:
        vitals = {
            str(peer): Vitals(
                *(int(rss), float(cpu), bool(suspect), dict(trainers)),
                *(parse_device(device), parse_gpus(gpus), figures.get(str(peer), {})),
            )
            for peer, (rss, cpu, suspect, trainers, device, gpus) in body["vitals"].items()
        }
        for told in vitals.values():
            for progress in told.trainers.values():
                if progress != {}:
                    check_trainer_message("progress", progress)
        return vitals
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Malformed(f"digest: {error!r}") from error
