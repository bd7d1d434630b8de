"""Reading CSV: every row and nothing else, whatever the lines end in and wherever a block ends."""

import csv
import gzip
import io
from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_cohorts import csv_files
from backdoor_cohorts.csv_files import BLOCK, beginning, csv_error, open_csv
from backdoor_core.errors import BackdoorError

COLUMNS = {"stay_id": "BIGINT", "value": "VARCHAR", "charttime": "TIMESTAMP", "valuenum": "DOUBLE"}
HEADER = "junk,stay_id,charttime,value,valuenum\n"
ROW = "x,1,2150-03-01 10:00:00,Confused,4.0\n"


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def read(path, columns=COLUMNS):
    with open_csv(path, columns) as rows:
        return rows.read_all()


def told(path):
    """The one line that an error in the beginning or later in the file becomes."""
    try:
        read(path)
    except BackdoorError as error:
        return str(error)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        return csv_error(path, str(error)) or str(error)
    raise AssertionError("the file was read")


@pytest.fixture(params=[".csv", ".csv.gz"])
def path(request, tmp_path):
    return tmp_path / f"table{request.param}"


def test_the_wanted_columns_as_their_types(path):
    table = read(write(path, HEADER + ROW + "x,2,2150-03-01 10:00:00.5,,\n" + 'x,,,"a ""b"", c",1e3\n'))
    assert table.column_names == list(COLUMNS)
    assert table.to_pylist() == [
        {"stay_id": 1, "value": "Confused", "charttime": datetime(2150, 3, 1, 10), "valuenum": 4.0},
        {"stay_id": 2, "value": None, "charttime": datetime(2150, 3, 1, 10, 0, 0, 500_000), "valuenum": None},
        {"stay_id": None, "value": 'a "b", c', "charttime": None, "valuenum": 1000.0},
    ]


def test_line_ends_and_beginnings(path):
    plain = HEADER + ROW + ROW.replace("Confused", '"two\nlines"') + ROW
    expected = read(write(path, plain)).to_pylist()
    assert len(expected) == 3
    for text in (plain[:-1], "\ufeff" + plain, plain + "\n", plain.replace(ROW, ROW + "\n")):
        assert read(write(path, text)).to_pylist() == expected
        assert beginning(path) == (HEADER.strip().split(","), True)
    crlf = read(write(path, plain.replace("\n", "\r\n"))).to_pylist()
    assert [row | {"value": row["value"].replace("\r", "")} for row in crlf] == expected


def test_several_gzip_members_are_one_file(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress((HEADER + ROW).encode()) + gzip.compress(ROW.encode()))
    assert read(path).num_rows == 2


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("before", [0, 1, 60_000])
def test_a_long_last_line_is_not_dropped(path, end, before):
    """DuckDB 2.0 drops one that is longer than its buffer: here it is read, or refused where it is too long."""
    for size in (100_000, BLOCK - 1000):
        cell = "é" * (size // 2)
        table = read(write(path, HEADER + ROW * before + f"x,7,2150-03-01 10:00:00,{cell},1{end}"))
        assert table.num_rows == before + 1
        assert table["value"][-1].as_py() == cell
    write(path, HEADER + ROW * before + f"x,7,2150-03-01 10:00:00,{'y' * 3 * BLOCK},1{end}")
    assert f"column value holds an overlong cell, or a quote that is never closed, in line {before + 2} " in told(path)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(st.sampled_from('a,"\n\r é'), max_size=40), min_size=1, max_size=60),
    block=st.integers(300, 900),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_quoted_cells_across_the_ends_of_blocks(tmp_path_factory, texts, block, end):
    """Against Python's csv, with blocks so small that many end within a quoted cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["stay_id", "value", "note"])
    writer.writerows([number, text, "n"] for number, text in enumerate(texts))
    path = write(tmp_path_factory.mktemp("blocks") / "table.csv.gz", file.getvalue())
    whole = list(csv.reader(io.StringIO(file.getvalue(), newline="")))[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "BLOCK", block)
        found = read(path, {"stay_id": "BIGINT", "value": "VARCHAR"}).to_pylist()
    assert [(row["stay_id"], row["value"] or "") for row in found] == [(int(row[0]), row[1]) for row in whole]


@pytest.mark.parametrize("before", [0, 60_000])
@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("x,2.0,,a,1\n", "column stay_id holds '2.0'; expected a whole number, without a decimal point"),
        ("x,99999999999999999999,,a,1\n", "column stay_id holds '99999999999999999999'; expected a whole number"),
        ("x,1,yesterday,a,1\n", "column charttime holds 'yesterday'; expected a time such as 2180-05-06 22:23:00"),
        ("x,1,2150-03-01 10:00:00Z,a,1\n", "column charttime holds '2150-03-01 10:00:00Z'; expected a time"),
        ("x,1,,a,eighty\n", "column valuenum holds 'eighty'; expected a number"),
        ("x,1,,a," + "9" * 500 + "x\n", "column valuenum holds '99999"),
        ("x,1\n", "a row has 2 cells: 'x,1'; expected 5, as in the header"),
        ("x,1,,a,1,1\n", "a row has 6 cells: 'x,1,,a,1,1'; expected 5, as in the header"),
        ('x,1,,"a,1\nx,1,,a,1\n', "a row has 4 cells: "),
        (b"x,1,,\xff,1\n", "column value holds invalid UTF8 data; expected text in UTF-8"),
    ],
)
def test_a_bad_row_is_told_with_its_column(path, before, row, line):
    data = row if isinstance(row, bytes) else row.encode()
    message = told(write(path, (HEADER + ROW * before).encode() + data))
    assert line in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))


def test_a_quote_that_is_never_closed_is_found_where_it_opens(path):
    write(path, HEADER + ROW * 2 + 'x,"1,2",,"open,1\n' + ROW * 150_000)
    assert "column value holds an overlong cell, or a quote that is never closed, in line 4 " in told(path)


def test_the_overlong_cell_is_found_behind_quoted_commas(path):
    write(path, HEADER + f'"a ""b"", c",1,2150-03-01,"{"y," * BLOCK * 2}",1\n' + ROW)
    assert "column value holds an overlong cell" in told(path)


@pytest.mark.parametrize("cut", [1, 8, 5000])
def test_a_truncated_gzip_is_told(tmp_path, cut):
    lines = "".join(f"{hash(str(n)) % 10**9},{n},,a,{n}\n" for n in range(60_000))
    path = write(tmp_path / "table.csv.gz", HEADER + lines)
    path.write_bytes(path.read_bytes()[:-cut])
    assert "ended before the end-of-stream marker" in told(path)
