"""The example in docs/scenarios.md does what is printed below it."""

from __future__ import annotations

import re

from paths import ROOT

TEXT = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")


def test_the_example_prints_what_the_page_says(capsys):
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", TEXT, re.S)
    exec(compile(code, "docs/scenarios.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == printed
