"""Whose reports count for a job's newest generation: what the rules about jobs share."""

from collections.abc import Mapping
from typing import Any

from p2p.replicated.state import Generation, Seat
from p2p.reports import TrainerReport

Command = dict[str, Any]
Trainers = Mapping[str, TrainerReport]  # by peer, of one job
Names = Mapping[str, str]  # of peers, by id


def seated_reports(newest: Generation, trainers: Trainers) -> list[TrainerReport]:
    return [trainer for _, trainer in pairs(newest, trainers)]


def pairs(newest: Generation, trainers: Trainers) -> list[tuple[Seat, TrainerReport]]:
    return [
        (seat, trainers[seat.peer])
        for seat in newest.seats
        if seat.peer in trainers and trainers[seat.peer].child == seat.child
    ]


def of(newest: Generation, message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message if it is of the newest generation, else nothing."""
    return message if message.get("generation") == newest.number else {}
