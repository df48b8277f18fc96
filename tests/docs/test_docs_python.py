"""The code on the page about Python runs, from top to bottom, and prints what the page says."""

from __future__ import annotations

import re

from paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_code_block_runs_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    printed = []
    for number, text in enumerate(BLOCKS):
        exec(compile(text, f"docs/python.md, block {number}", "exec"), names)
        printed.append(capsys.readouterr().out)
    first = printed[0].split()
    assert first[0] == "certified"
    assert [round(float(word), 2) for word in first[1:]] == [3.0, 2.0, 2.0]
    told = next(out for out in printed if "mistakes in the input" in out)
    shown = re.search(r"^    \d mistakes in the input:\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    for line in shown[0].strip().splitlines():
        assert line.strip().removesuffix("...") in told
