"""The clean-up of ``benchmarks/ingest.py`` written directly in DuckDB.

python benchmarks/ingest_duckdb.py LOG OUT

The log is read once into a table of DuckDB's own, compressed on disk; usable rows and refused ones
come from that. Reading it twice instead took half as long again.
"""

import os
import sys
from pathlib import Path

import duckdb

FIRST, LAST = 1_511_539_200, 1_512_316_799
RULES = f"""CASE
    WHEN t IS NULL THEN 'too few fields'
    WHEN x IS NOT NULL THEN 'too many fields'
    WHEN trim(u) IN ('', 'null') THEN 'null user_id'
    WHEN trim(i) IN ('', 'null') THEN 'null item_id'
    WHEN trim(b) IN ('', 'null') THEN 'null behavior'
    WHEN regexp_matches(u, '[\\x00-\\x1f\\x7f]') OR regexp_matches(i, '[\\x00-\\x1f\\x7f]')
        THEN 'control character in an id'
    WHEN place IS NULL THEN 'unknown behavior'
    WHEN trim(t) IN ('', 'null') THEN 'null timestamp'
    WHEN time IS NULL THEN 'unreadable timestamp'
    WHEN time < {FIRST} THEN 'timestamp before data.time_min'
    WHEN time > {LAST} THEN 'timestamp after data.time_max'
END"""


def main(log: str, out: Path) -> None:
    base = duckdb.connect(str(out / "rows.duckdb"))
    base.execute(f"""
        SET threads = {os.environ.get("OMP_NUM_THREADS", "2")};
        SET memory_limit = '3GB';
        SET temp_directory = '{out}/spilled';
        SET preserve_insertion_order = false""")
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in "uicbtx")
    base.execute(f"""
        CREATE TABLE log AS
        SELECT user, item, place, time,
            CASE WHEN NOT fine THEN {RULES} END AS reason,
            CASE WHEN NOT fine THEN concat_ws(',', u, i, c, b, t, x) END AS raw
        FROM (
            SELECT *, coalesce(x IS NULL AND time BETWEEN {FIRST} AND {LAST}
                AND user IS NOT NULL AND item IS NOT NULL AND place IS NOT NULL, false) AS fine
            FROM (
                SELECT *, TRY_CAST(u AS BIGINT) AS user, TRY_CAST(i AS BIGINT) AS item,
                    TRY_CAST(t AS BIGINT) AS time,
                    (CASE b WHEN 'pv' THEN 0 WHEN 'fav' THEN 1 WHEN 'cart' THEN 2 WHEN 'buy' THEN 3
                    END)::UTINYINT AS place
                FROM read_csv('{log}', header = false, auto_detect = false, delim = ',',
                    quote = '"', escape = '"', null_padding = true, nullstr = '\x01',
                    strict_mode = false, columns = {{{columns}}})))""")
    base.execute(f"""
        COPY (SELECT reason, raw FROM log WHERE reason IS NOT NULL)
        TO '{out}/quarantine.parquet' (FORMAT parquet, COMPRESSION zstd)""")
    base.execute(f"""
        COPY (
            SELECT user AS user_id, item AS item_id,
                ['click', 'favourite', 'cart', 'purchase'][place + 1] AS behavior,
                min(time) AS first, max(time) AS timestamp, count(*)::UINTEGER AS count
            FROM log WHERE reason IS NULL GROUP BY user, item, place ORDER BY user, item, place)
        TO '{out}/interactions.parquet' (FORMAT parquet, COMPRESSION zstd)""")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
