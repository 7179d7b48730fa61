from dataclasses import replace

import numpy as np
import pytest

from bigel.backtest.cut import HORIZONS, after, horizons_of, last_whole_day, load_history, nights_of
from bigel.errors import ConfigError
from bigel.schema import DAY
from bigel.signals.history import History
from tests.signals.timed import log as timed_log
from tests.signals.timed import split_of


def history_of(rows, until, users=4, items=6):
    """Rows are (user, item, behavior, day)."""
    rows = sorted(rows, key=lambda row: row[3])
    columns = [np.array([row[at] for row in rows], np.int64) for at in range(3)]
    times = np.array([round(row[3] * DAY) for row in rows], np.int64)
    once = np.ones(len(rows), np.int64)
    return History(*columns, times, once, round(until * DAY), users, items, ("view", "buy"))


@pytest.mark.parametrize(
    ("end", "last"),
    [(10.0, 9), (9.8, 9), (9.76, 9), (9.74, 8), (9.1, 8)],
)
def test_a_last_day_counts_where_it_lacks_less_than_a_quarter(end, last):
    log = history_of([(0, 0, 0, 0.3), (0, 1, 0, end - 1 / DAY)], end)
    assert last_whole_day(log) == last * DAY


def test_a_log_whose_times_are_days_ends_with_its_last_day():
    log = history_of([(0, 0, 0, 0), (0, 1, 0, 9)], 9 + 1 / DAY)
    assert nights_of(log, 2) == [8 * DAY, 9 * DAY]


def test_nights_begin_where_days_of_the_zone_do():
    """Berlin goes from UTC+1 to UTC+2 on 2026-03-29, a day of 23 hours."""
    begins = [1_774_652_400, 1_774_738_800, 1_774_821_600, 1_774_908_000]  # 28 to 31 March
    rows = [(0, 0, 0, begins[0] / DAY - 20), (0, 1, 0, (begins[3] - 3_600) / DAY)]
    log = replace(history_of(rows, begins[3] / DAY), zone="Europe/Berlin")
    assert nights_of(log, 3) == begins[:3]
    assert horizons_of(log, begins[2]) == ["day"] and horizons_of(log, begins[3]) == []
    days = replace(history_of([(0, 0, 0, at / DAY) for at in begins[:3]], 0), zone=log.zone)
    assert last_whole_day(replace(days, until=begins[2] + 1)) == begins[2]
    utc = replace(log, zone="UTC")
    assert nights_of(utc, 1) == [last_whole_day(utc)] == [20_542 * DAY]  # 30 March


def test_the_day_after_a_night_has_as_many_hours_as_clocks_say():
    begins = (1_774_738_800, 1_774_821_600)  # 29 and 30 March 2026, of 23 and 24 hours
    rows = [(0, 0, 0, begins[0] / DAY - 9), (0, 1, 0, (begins[1] - 1) / DAY),
            (0, 2, 0, begins[1] / DAY)]  # fmt: skip
    log = replace(history_of(rows, begins[1] / DAY + 1), zone="Europe/Berlin")
    assert after(log, begins[0])[0].known.relevant.keys().tolist() == [1]


@pytest.mark.parametrize("count", [0, 4])
def test_nights_that_the_log_has_no_room_for_are_refused(count):
    log = history_of([(0, 0, 0, 0.5), (0, 1, 0, 10.9)], 11)
    assert nights_of(log, 3)[0] == 8 * DAY
    with pytest.raises(ConfigError, match=f"--nights {count}: from 1 to 3 nights"):
        nights_of(log, count)


def test_a_week_is_asked_only_where_the_log_has_it():
    log = history_of([(0, 0, 0, 0.5), (0, 1, 0, 19.9)], 20)
    found = {day: horizons_of(log, day * DAY) for day in (12, 13, 14, 19)}
    assert found == {12: ["day", "week"], 13: ["day", "week"], 14: ["day"], 19: ["day"]}


def test_what_came_after_by_hand():
    log = history_of(
        [
            (0, 0, 0, 1.0), (1, 1, 1, 2.0),
            (0, 0, 0, 5.0),  # a repeat
            (0, 5, 0, 5.1),  # an item that nobody had before
            (0, 0, 1, 5.2),  # had it, but under view
            (1, 1, 0, 5.3), (2, 1, 0, 5.4),  # user 2 is new
            (0, 2, 0, 6.0),  # a day too late, in the week
        ],
        7.0,
    )  # fmt: skip
    view, buy = after(log, 5 * DAY)
    assert pairs_of(view.known) == {(0, 5), (1, 1)} and pairs_of(view.newcomers) == {(2, 1)}
    assert pairs_of(buy.known) == {(0, 0)} and pairs_of(buy.newcomers) == set()
    week, _ = after(log, 5 * DAY, HORIZONS["week"])
    assert pairs_of(week.known) == {(0, 5), (0, 2), (1, 1)}
    rows, masked = view.known.mask.take(view.known.users)
    assert (rows.tolist(), masked.tolist()) == ([0], [0])


def pairs_of(task):
    rows, items = task.relevant.take(task.users)
    return set(zip(task.users[rows].tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_what_came_after_agrees_with_a_loop(seed):
    draw = np.random.default_rng(seed)
    rows = [
        (int(draw.integers(4)), int(draw.integers(6)), int(draw.integers(2)), float(draw.random()))
        for _ in range(40)
    ]
    log = history_of([(*row[:3], 10 * row[3]) for row in rows], 10.0)
    events = list(zip(log.users, log.items, log.behavior_index, log.times, strict=True))
    for night, days in ((3, 1), (5, 2), (2, 7)):
        start, end = night * DAY, (night + days) * DAY
        known = {user for user, _, _, time in events if time < start}
        for behavior, asked in enumerate(after(log, start, days)):
            had = {(u, i) for u, i, b, time in events if b == behavior and time < start}
            new = {
                (u, i) for u, i, b, time in events if b == behavior and start <= time < end
            } - had
            assert pairs_of(asked.known) == {pair for pair in new if pair[0] in known}
            assert pairs_of(asked.newcomers) == {pair for pair in new if pair[0] not in known}


def test_a_log_without_times_and_one_split_otherwise_are_refused(tmp_path):
    frame = timed_log(days=9)
    _, _, drawn = split_of(frame, tmp_path / "drawn", "split.method='leave_one_out'")
    with pytest.raises(ConfigError, match=r"split by 'leave_one_out'; use split\.method = 'time'"):
        load_history(drawn)
    _, _, timeless = split_of(
        frame.drop("timestamp"), tmp_path / "timeless", "data.columns.timestamp=''"
    )
    with pytest.raises(ConfigError, match=r"no[nt].*data.columns.timestamp"):
        load_history(timeless)
