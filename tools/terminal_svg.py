"""A terminal's text as an SVG picture, for the README: stdin to stdout.

    tools/quickstart | tee run.txt; python3 tools/terminal_svg.py < part-of-run.txt > picture.svg

Bold is kept; long lines are cut.
"""

import re
import sys
from xml.sax.saxutils import escape

COLUMNS, CHAR, LINE, MARGIN = 92, 7.83, 18, 16


def tspan(line):
    """The line with bold stretches marked."""
    shown, parts, bold = 0, [], False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            bold = part == "\x1b[1m"
            continue
        part = part[:COLUMNS - shown] + ("…" if len(part) > COLUMNS - shown else "")
        shown += len(part)
        parts.append(f'<tspan class="b">{escape(part)}</tspan>' if bold else escape(part))
    return "".join(parts)


def main():
    lines = [line.rstrip("\n") for line in sys.stdin]
    width, height = round(COLUMNS * CHAR + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
          f'width="{width}" height="{height}">')
    print("<style>text{font:13px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
          "fill:#d4d4d4;white-space:pre}.b{fill:#fff;font-weight:bold}</style>")
    print(f'<rect width="{width}" height="{height}" rx="8" fill="#1e1e1e"/>')
    for i, line in enumerate(lines):
        if line.strip():
            y = MARGIN + i * LINE + 13
            print(f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{tspan(line)}</text>')
    print("</svg>")


if __name__ == "__main__":
    main()
