"""Fails when a test was skipped for another reason than a missing GPU. Reads the JUnit file that
tools/test leaves; a test that skips says why in its output."""

import re
import sys
import xml.etree.ElementTree as xml


def main(path):
    bad = 0
    for case in xml.parse(path).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        skipped = case.find("skipped") is not None or "[  SKIPPED ]" in output
        if skipped and not re.search(r"\bno GPU\b", output):
            print(f"skips: {case.get('name')} was skipped:\n{output.strip()}")
            bad += 1
    print(f"skips: {bad} without 'no GPU'")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
