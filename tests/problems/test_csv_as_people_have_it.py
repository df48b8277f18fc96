"""CSV files of spreadsheets: separators, decimal commas, spaces, names that come twice."""

import pytest

from decomp.errors import InputError
from problems.market.data import read_peaks
from problems.time_series import read_csv


@pytest.mark.parametrize(
    "text",
    ["time;load\nx;0,5\ny;1\n", "time, load ,\nx, 0.5 ,\ny,1,\n", "time;load;\r\nx;0,5;\r\ny;1;\r\n;;\r\n"],
)
def test_spreadsheet_files_are_read(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    table = read_csv(tmp_path / "a.csv", "a.csv", "series")
    assert list(table.columns) == ["time", "load"]
    assert list(table["load"]) == ["0.5", "1"]


@pytest.mark.parametrize(
    ("text", "words"), [("time,load,load\nx,1,2\n", "same name: 'load'"), ("t;a\nx;0,5\ny;1.5\n", "decimal comma")]
)
def test_doubtful_files_are_refused(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_csv(tmp_path / "a.csv", "a.csv", "series")


def test_two_peaks_for_one_bus_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("bus,Ppeak_kW,pf\n1,3,0.9\n1,4,0.9\n")
    with pytest.raises(InputError, match="two rows"):
        read_peaks("p.csv", tmp_path)
