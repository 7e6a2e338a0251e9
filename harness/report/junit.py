# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""JUnit XML: one testsuite a target, its facts as properties.

A difference, crash, hang or flaky case is a failure; a lost machine is an error; an unsupported
case is skipped, unless its whole target ran nothing although it should have: then it is a failure.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from harness.model import Result
from harness.report.detail import detail
from harness.report.outcome import (
    FAILURES,
    Outcome,
    RunHeader,
    first_line,
    headline,
    nothing_ran,
    outcome,
    targets_of,
)
from harness.report.style import clean


def junit(results: Sequence[Result], header: RunHeader) -> str:
    """The XML document as text."""
    root = ET.Element("testsuites", name="bpfthrow", time=f"{header.seconds:.3f}")
    barren = nothing_ran(results, header)
    for name in targets_of(results):
        own = [result for result in results if result.target == name]
        root.append(_suite(name, own, header, barren=name in barren))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(name: str, results: Sequence[Result], header: RunHeader, *, barren: bool) -> ET.Element:
    suite = ET.Element("testsuite", name=name)
    target = header.target(name)
    properties = ET.SubElement(suite, "properties")
    facts = {
        "kernel": target.release,
        "accelerator": target.accelerator,
        "jit": target.jit,
        "loader": target.loader,
        "clang": header.clang,
    }
    for key, fact in facts.items():
        ET.SubElement(properties, "property", name=key, value=clean(fact))
    cases = [_case(result, header, barren=barren) for result in results]
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(result.observed.duration_s for result in results):.3f}")
    return suite


def _case(result: Result, header: RunHeader, *, barren: bool) -> ET.Element:
    topic, _, name = result.case.id.rpartition("/")
    case = ET.Element(
        "testcase",
        classname=f"{result.target}.{topic.replace('/', '.')}",
        name=f"{name}-{result.case.hook}",
        time=f"{result.observed.duration_s:.3f}",
    )
    kind = outcome(result)
    if kind is Outcome.AGREE:
        return case
    message = clean(_reason(result))
    if kind in FAILURES or barren:
        child = ET.SubElement(case, "failure", message=message, type=kind)
        child.text = clean(detail(result, header))
    elif kind is Outcome.LOST:
        child = ET.SubElement(case, "error", message=message, type=kind)
        child.text = clean(detail(result, header))
    else:
        ET.SubElement(case, "skipped", message=message)
    return case


def _reason(result: Result) -> str:
    if result.differences:
        return headline(result)
    return first_line(result.observed.message) or str(result.observed.verdict)
