"""The report of played scenarios as JSON, as JUnit's XML, and in a few lines for people."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from p2p.errors import P2PError

Report = dict[str, Any]


def files(asked: str) -> list[Path]:
    """FILE and the other one beside it; only FILE where that is a device. Raises P2PError when it
    cannot be written, before minutes are spent."""
    path = Path(asked).expanduser()
    other = path.with_suffix(".json" if path.suffix == ".xml" else ".xml")
    both = [path] if path.exists() and not path.is_file() else [path, other]
    for one in both:
        try:
            one.open("a").close()
        except OSError as error:
            raise P2PError(f"cannot write the report {one}: {error.strerror}") from error
    return both


def write(report: Report, paths: list[Path]) -> None:
    """JUnit's XML into those that end in .xml, JSON into the others. Raises P2PError."""
    for path in paths:
        text = junit(report) if path.suffix == ".xml" else json.dumps(report, indent=2) + "\n"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise P2PError(f"cannot write the report {path}: {error.strerror}") from error


def junit(report: Report) -> str:
    """A suite for each scenario, a case for each thing that must hold and one for its steps."""
    root = ElementTree.Element("testsuites", {"name": "p2pnode demo"})
    for one in report["scenarios"]:
        suite = ElementTree.SubElement(root, "testsuite", {"name": one["name"]})
        cases = [("steps", one["error"]), *((row["check"], _failure(row)) for row in one["checks"])]
        for at, (name, failure) in enumerate(cases):
            told = {"classname": one["name"], "name": f"{at} {name}"}
            if at == 0:
                told["time"] = f"{one['seconds']:.1f}"
            case = ElementTree.SubElement(suite, "testcase", told)
            if failure is not None:
                ElementTree.SubElement(case, "failure", {"message": failure}).text = failure
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(failure is not None for _, failure in cases)))
        suite.set("errors", "0")
        suite.set("time", f"{one['seconds']:.1f}")
        ElementTree.SubElement(suite, "system-out").text = "\n".join(one["facts"])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _failure(row: Report) -> str | None:
    return None if row["ok"] else str(row["text"])


def summary(report: Report) -> str:
    """Every scenario with what held and what did not."""
    lines = []
    for one in report["scenarios"]:
        verdict = "the promise held" if one["ok"] else "NOT HELD"
        lines.append(f"{one['name']}: {verdict}  ({one['seconds']:.0f} s)")
        if one["error"]:
            lines.append(f"    failed: {one['error']}")
        lines += [f"    {'ok ' if row['ok'] else 'NOT'} {row['text']}" for row in one["checks"]]
    if len(report["scenarios"]) > 1:
        held = sum(one["ok"] for one in report["scenarios"])
        total = len(report["scenarios"])
        lines.append(f"{held} of {total} scenarios held, in {report['seconds']:.0f} s")
    return "\n".join(lines)
