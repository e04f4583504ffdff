"""Plans of batches: local time and working time, visits and their room, what is needed, better starts."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.catalog import load, load_text
from simulators.physics.parameters import Setting
from tilctl.cli.dryrun.course import PERSON, Course, Did, Dosed, Mounted, Sampled, visits
from tilctl.cli.dryrun.walk import dry_run
from tilctl.cli.planning.materials import materials
from tilctl.cli.planning.plan import Plan, as_data, make_plan
from tilctl.cli.planning.suggestions import judged, suggestions
from tilctl.cli.planning.timeline import at, timeline
from tilctl.config.moments import BadTime, first_moment, moments, parse_date, parse_moment, shown, zone_of
from tilctl.config.working import Outside, Working, day_names, parse_hours, parse_weekdays

BERLIN = zone_of("Europe/Berlin")
ZONES = ("Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Etc/UTC")
HOUR = timedelta(hours=1)
HEAD = """\
recipe: tried
version: "1.0.0"
title: For plans
status: draft
sources: {P: "test default"}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 2, source: P}
containers:
  rep: {kind: vessel, class: gas-permeable-100cm2, count: 1..2, limit: 1 L, source: P}
  medium: {kind: bag, count: 1..2, limit: 1 L, holds: "AIM-V medium", source: P}
  more: {kind: bag, limit: 1 L, holds: "AIM-V medium", source: P}
  taken: {kind: bag, limit: 2 L, holds: "what cells leave", source: P}
  waste: {kind: bag, limit: 5 L, source: P}
results:
  tvc: {label: total viable cells, unit: cells, range: 0..2e11 cells, source: P}
procedure:
- operation: begin
  title: Begin
  steps:
  - ask: {id: ready, text: Ready?, sign: [operator, verifier]}
  - mount: {id: in, containers: [rep], count: {rep: "2"}, volume: 0 mL, source: P}
  - mark: {id: day0}
- operation: rest
  steps:
"""
STAY = "incubate: {id: stay, until: day >= 1 d, window: 20 h..30 h, source: P}"


def working(hours: str = "08:00-17:00", weekdays: str = "mon-fri", *holidays: str, zone: str = "Europe/Berlin"):
    days = frozenset(parse_date(each) for each in holidays)
    return Working(zone_of(zone), *parse_hours(hours), parse_weekdays(weekdays), days)


def moment(text: str) -> datetime:
    return parse_moment(text, BERLIN)


def planned(start: str, *steps: str, suggest: bool = False) -> Plan:
    recipe = load_text(HEAD + "".join(f"  - {step}\n" for step in steps), "tried.yaml")
    return make_plan(recipe, {}, moment(start), "Europe/Berlin", working(), suggest=suggest)


def local(plan: Plan, found: datetime) -> str:
    return plan.local(found).isoformat(" ", "minutes")


# --- local time -------------------------------------------------------------------------------------------------------


def test_a_local_time_is_one_moment_none_in_a_gap_two_in_a_fold() -> None:
    assert moments(datetime(2026, 3, 2, 8), BERLIN) == (datetime(2026, 3, 2, 7, tzinfo=UTC),)
    assert moments(datetime(2026, 3, 29, 2, 30), BERLIN) == ()
    first, second = moments(datetime(2026, 10, 25, 2, 30), BERLIN)
    assert (first, second - first) == (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), HOUR)
    assert first_moment(datetime(2026, 3, 29, 2, 30), BERLIN) == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_a_start_in_a_gap_is_refused_and_one_in_a_fold_asks_which() -> None:
    with pytest.raises(BadTime, match=r"put forward over it, to Sun 2026-03-29 03:00 \+02:00"):
        moment("2026-03-29T02:30")
    with pytest.raises(BadTime, match=r"2026-10-25T02:30\+02:00 or 2026-10-25T02:30\+01:00"):
        moment("2026-10-25T02:30")
    assert moment("2026-10-25T02:30+01:00") - moment("2026-10-25T02:30+02:00") == HOUR
    assert moment("2026-03-02 08:00") == moment("2026-03-02T07:00:00Z") == datetime(2026, 3, 2, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-03-02", "20260302T0800", "2026-02-30T08:00", "2026-03-02T24:00", "2026-03-02T08:00+99:00",
     "1999-12-31T23:59", "9999-12-31T23:59", "٢٠٢٦-03-02T08:00"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="expected"):
        moment(text)


@pytest.mark.parametrize("name", ["", "Europe", "Mars/Olympus", "../etc/passwd", "europe/berlin", "x" * 4000, "a\0b"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(BadTime, match="IANA name") as refused:
        zone_of(name)
    assert len(str(refused.value)) < 300


@given(st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1)), st.sampled_from(ZONES), st.integers(0, 40 * 86400))
def test_a_duration_is_as_long_on_every_day_and_local_time_leads_back(start: datetime, zone: str, passed: int) -> None:
    began = start.replace(microsecond=0, tzinfo=UTC)
    assert at(began, passed) - began == timedelta(seconds=passed)
    there = at(began, passed).astimezone(zone_of(zone))
    assert parse_moment(there.isoformat(), BERLIN) == at(began, passed)
    assert at(began, passed) in moments(there.replace(tzinfo=None), zone_of(zone))


# --- working time -----------------------------------------------------------------------------------------------------


def test_days_of_23_and_25_hours_are_worked_by_the_clocks() -> None:
    around = working("00:00-23:59", "mon-sun")
    for day, hours in ((date(2026, 3, 28), 24), (date(2026, 3, 29), 23), (date(2026, 10, 25), 25)):
        begin, end = around.span(day) or (None, None)
        assert begin is not None and end is not None and end - begin == hours * HOUR, day  # noqa: PT018
    odd = working("02:30-10:00", "mon-sun")
    begin, end = odd.span(date(2026, 3, 29)) or (None, None)
    assert begin is not None and end is not None and end - begin == 7 * HOUR, "from 03:00, when clocks are put forward"  # noqa: PT018
    begin, end = odd.span(date(2026, 10, 25)) or (None, None)
    assert begin is not None and end is not None and end - begin == 8.5 * HOUR, "from the first 02:30"  # noqa: PT018


def test_what_is_outside_says_why() -> None:
    usual = working("08:00-17:00", "mon-fri", "2026-04-03")

    def outside(begin: str, end: str) -> tuple[float, set[str]]:
        found = usual.outside(moment(begin), moment(end))
        return found.seconds / 3600.0, set(found.why)

    assert outside("2026-03-02T08:00", "2026-03-02T17:00") == (0.0, set())
    assert outside("2026-03-02T07:30", "2026-03-02T17:15") == (0.75, {"hours"})
    assert outside("2026-03-06T16:00", "2026-03-09T09:00") == (63.0, {"hours", "weekday"})
    assert outside("2026-04-03T10:00", "2026-04-03T11:00") == (1.0, {"holiday"})
    assert outside("2026-03-28T12:00", "2026-03-29T12:00") == (23.0, {"weekday"}), "clocks are put forward"
    assert outside("2026-03-02T17:00", "2026-03-02T17:00") == (0.0, set())
    assert outside("2026-03-02T17:01", "2026-03-02T17:01") == (0.0, {"hours"}), "a moment has no length, but a place"
    assert outside("2026-03-07T10:00", "2026-03-07T10:00") == (0.0, {"weekday"})


SPANS = st.tuples(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.integers(0, 5 * 1440), st.integers(0, 5 * 1440)
)


@given(SPANS, st.sampled_from(ZONES), st.integers(5, 14), st.sets(st.integers(0, 6)))
def test_outside_is_what_the_clocks_say_minute_by_minute(
    spans: tuple[datetime, int, int], zone: str, begin: int, weekdays: set[int]
) -> None:
    usual = Working(zone_of(zone), time(begin), time(begin + 8), frozenset(weekdays), frozenset({date(2026, 4, 3)}))
    start = spans[0].replace(second=0, microsecond=0, tzinfo=UTC)
    middle = start + timedelta(minutes=spans[1])
    end = middle + timedelta(minutes=spans[2])
    found = usual.outside(start, end)
    both = usual.outside(start, middle) + usual.outside(middle, end)
    assert found.seconds == both.seconds
    quarters = [start + timedelta(minutes=15 * i) for i in range(int((end - start) / timedelta(minutes=15)))]
    whole = end if not quarters else quarters[-1] + timedelta(minutes=15)
    rough = 15 * 60.0 * sum(not _works(usual, each.astimezone(usual.zone)) for each in quarters)
    exact = usual.outside(start, whole).seconds if quarters else 0.0
    assert abs(exact - rough) <= 15 * 60.0 * 2 * 12, "at most a quarter at each begin and end of a day"
    if start.minute % 15 == 0:
        assert exact == rough


def _works(usual: Working, clock: datetime) -> bool:
    on = clock.weekday() in usual.weekdays and clock.date() not in usual.holidays
    return on and usual.begin <= clock.time() < usual.end


@pytest.mark.parametrize(
    "text", ["", "8-17", "17:00-08:00", "08:00-08:00", "08:00-24:00", "24:00-25:00", "08:60-17:00", "08:00-17:00 "]
)
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(BadTime):
        parse_hours(text)


def test_weekdays_are_single_days_and_ranges_over_the_end_of_the_week_too() -> None:
    assert day_names(parse_weekdays("mon-fri")) == "mon,tue,wed,thu,fri"
    assert day_names(parse_weekdays("Sat-Mon, wed")) == "mon,wed,sat,sun"
    for text in ("", "monday", "mon-", "mon--fri", "mon,,tue", "1-5"):
        with pytest.raises(BadTime, match="expected days"):
            parse_weekdays(text)


# --- timeline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "clock"), [("2026-03-28T08:00", 1), ("2026-10-24T08:00", -1), ("2026-03-02T08:00", 0)]
)
def test_a_day_of_culture_is_24_hours_when_clocks_change(start: str, clock: int) -> None:
    plan = planned(start, STAY, "unmount: {id: out, containers: rep}")
    _, rest = plan.timeline.operations
    (_, zero), begin = plan.timeline.marks[0], plan.timeline.visits[1].begin
    assert begin - zero == timedelta(days=1)
    shift = plan.local(begin).replace(tzinfo=None) - plan.local(zero).replace(tzinfo=None) - timedelta(days=1)
    assert shift == clock * HOUR
    assert (rest.day_begin, round(rest.day_end or 0.0, 2)) == (0.0, 1.0)
    assert rest.end - rest.begin == plan.timeline.end - zero


def test_a_visit_has_its_steps_in_words_who_signs_and_how_long_people_are_busy() -> None:
    plan = planned("2026-03-02T08:00", STAY, "sample: {id: count, from: rep, results: [tvc], source: P}")
    first, second = plan.timeline.visits
    assert [(each.path, each.verb, each.words) for each in first.steps] == [
        ("begin/ready", "ask", "Ready?"),
        ("begin/in", "mount", "Mount rep (number: 2) in the station, empty."),
    ]
    assert (first.signs, second.signs) == (("operator", "verifier"), ())
    assert first.busy_s == (first.end - first.begin).total_seconds(), "nobody waits between these two"
    assert (first.day, round(second.day or 0.0, 3)) == (None, 1.0)
    assert [(each.path, each.who) for each in second.steps] == [("rest/count", "laboratory")]
    assert second.outside == Outside()


def test_the_window_of_a_step_leaves_room_for_the_visit_after_it_and_what_the_controller_does_between() -> None:
    slow = "wait: {id: settle, for: 90 min, source: P}"
    plan = planned("2026-03-02T08:00", STAY, slow, "unmount: {id: out, containers: rep}")
    first, second = plan.timeline.visits
    assert first.windows == ()
    (room,) = second.windows
    zero = plan.timeline.marks[0][1]
    assert (room.after, room.window) == ("rest/stay", "20 h..30 h")
    assert second.begin - zero == 25.5 * HOUR
    assert (room.earliest - zero, room.latest - zero) == (21.5 * HOUR, 31.5 * HOUR)


def test_visits_are_those_that_studies_count() -> None:
    recipe = load("til-22d")
    course = dry_run(recipe, 1, None, Setting())
    line = timeline(recipe, course, moment("2026-03-16T08:00"), working())
    assert [[step.path for step in visit.steps] for visit in line.visits] == [
        [did.path for did in steps] for steps in visits(course.people)
    ]
    assert [each.id for each in line.operations] == [each.id for each in recipe.procedure]
    assert all(one.end == two.begin for one, two in zip(line.operations, line.operations[1:], strict=False))
    assert (line.operations[0].begin, line.operations[-1].end) == (line.start, line.end)
    (wash,) = [step for visit in line.visits for step in visit.steps if step.path == "harvest/wash"]
    assert wash.words.startswith("Wash to 50 mL in"), "as it is shown, with its values"


def test_what_runs_in_turns_is_in_words_too() -> None:
    turn = "for_each: {id: all, as: f, in: rep, steps: [{sample: {id: look, from: f, results: [tvc], source: P}}]}"
    plan = planned("2026-03-02T08:00", f"repeat: {{id: turns, max: 2, every: 6 h, source: P, steps: [{{{turn}}}]}}")
    found = {step.path: step.words for visit in plan.timeline.visits for step in visit.steps}
    assert found["rest/turns/2/all/1/look"] == "Draw a sample from each rep; the laboratory reports tvc."


def test_a_batch_that_would_be_held_is_told_as_far_as_it_goes() -> None:
    plan = planned("2026-03-02T08:00", "wait: {id: hot, until: station.temperature > 45 degC, timeout: 1 h, source: P}")
    assert (plan.ended, plan.complete) == ("held", False)
    assert "did not come true" in plan.reason
    assert [each.id for each in plan.timeline.operations] == ["begin", "rest"]
    assert plan.timeline.operations[-1].end == plan.timeline.end
    assert as_data(plan)["reason"] == plan.reason


# --- materials --------------------------------------------------------------------------------------------------------


def test_materials_of_the_main_recipe_by_hand() -> None:
    recipe = load("til-22d")
    course = dry_run(recipe, 1, None, Setting())
    found = materials(recipe, course, moment("2026-03-16T08:00"))
    assert [(each.class_, each.containers, each.count) for each in found.vessels] == [
        ("gas-permeable-100cm2", ("pre",), 4),
        ("gas-permeable-500cm2", ("rep", "grow"), 2),
    ]
    empty = {each.containers: (each.count, each.limit_ml) for each in found.empty_bags}
    assert empty == {
        ("waste",): (1, 40000.0), ("pool",): (1, 600.0), ("gathered",): (1, 3000.0), ("conc",): (1, 500.0),
        ("product",): (1, 130.0),
    }  # fmt: skip
    bags = {each.container: each for each in found.contents}
    assert list(bags) == ["cm1", "cm2", "feeders", "cm4", "cs10"]
    assert bags["cm1"].needed_ml == 4 * (1000.0 + 20.0), "four flasks, 2 %"
    assert 0.98 * 4000.0 < bags["cm1"].moved_ml < 4000.0, "a pump slips by half a per cent to two"
    feeders = bags["feeders"].stated_ml or 0.0
    assert bags["feeders"].needed_ml == pytest.approx(feeders), "all of it, and nothing is more than all"
    pool = 4 * 100.0 - 2.0  # what was left in each flask, less the sample
    assert bags["cm2"].needed_ml == pytest.approx((5000.0 - feeders - pool) * 1.02, abs=3.0)
    left = 1020.0 - 2.0  # 1 L and what the pump slipped of 4 L within 30 mL, less the sample
    assert bags["cm4"].needed_ml == pytest.approx((5000.0 - left) * 1.02, abs=10.0)
    (washed,) = [each.held_ml for each in course.mounted if each.container == "conc"]
    assert bags["cs10"].needed_ml == pytest.approx(washed * 1.05)
    assert (bags["cm4"].allowed, bags["cm4"].limit_ml, bags["cm4"].fits) == ("1..5", 6000.0, True)
    assert [(each.container, each.volume_ml, each.results) for each in found.samples] == [
        ("pre[1]", 2.0, ("sterility",)),
        ("pool", 2.0, ("tvc", "viability")),
        ("rep", 2.0, ("tvc", "viability", "sterility")),
        ("gathered", 2.0, ("tvc", "viability", "sterility", "mycoplasma")),
    ]


def test_bags_are_counted_one_by_one_and_added_up_by_content() -> None:
    recipe = load_text(HEAD + f"  - {STAY}\n", "tried.yaml")
    course = Course(
        mounted=[Mounted("a", name, None, 900.0) for name in ("medium[1]", "medium[2]", "more")]
        + [Mounted("a", "taken", 0.0, 0.0), Mounted("a", "rep[1]", 0.0, 0.0)],
        dosed=[
            Dosed("b", "medium[1]", "rep[1]", 500.0, 495.0, 10.0),
            Dosed("c", "medium[1]", "rep[1]", 500.0, 503.0, 5.0),
            Dosed("d", "medium[2]", "rep[1]", 100.0, 99.0, 2.0),
            Dosed("e", "more", "rep[1]", 50.0, 50.0, 0.0),
            Dosed("f", "rep[1]", "taken", 100.0, 99.0, 2.0),
        ],
        sampled=[Sampled("g", 60.0, "more", 2.5, ("tvc",))],
    )
    found = materials(recipe, course, moment("2026-03-02T08:00"))
    medium, more = found.contents
    assert (medium.count, medium.moved_ml, medium.needed_ml, medium.most_ml) == (2, 1097.0, 1120.0, 1018.0)
    assert (medium.fits, more.fits) == (False, True), "1018 mL out of a bag of 1 L"
    assert (more.moved_ml, more.needed_ml, more.stated_ml) == (52.5, 52.5, None)
    assert [(each.holds, each.count, each.needed_ml) for each in found.totals] == [("AIM-V medium", 3, 1172.5)]
    assert [each.containers for each in found.empty_bags] == [("taken",)], "it comes empty, whatever it will hold"
    assert found.samples[0].moment == moment("2026-03-02T08:01")


# --- starts -----------------------------------------------------------------------------------------------------------


def test_suggested_starts_are_better_than_a_bad_one_and_the_best_there_are() -> None:
    course = dry_run(load("til-22d"), 1, None, Setting())
    work, usual, start = visits(course.people), working(), moment("2026-03-20T16:00")
    found, own = suggestions(lambda _: work, start, usual), judged(work, start, usual)

    def cost(start: datetime) -> tuple[int, float]:
        each = judged(work, start, usual)
        return len(each.left), each.outside_s

    assert len(found) == 5
    assert cost(found[0].start) < (len(own.left), own.outside_s)
    hours = [start + i * HOUR for i in range(14 * 24 + 1)]
    inside = [each for each in hours if _works(usual, each.astimezone(BERLIN))]
    assert [each.start for each in found] == sorted(inside, key=lambda each: (*cost(each), each))[:5]
    assert sum(left.outside.seconds for left in found[0].left) == found[0].outside_s


def test_a_start_that_leaves_nothing_outside_is_found_over_a_weekend() -> None:
    work = [[Did("a", "ask", 0.0, 3600.0, PERSON)], [Did("b", "ask", 3 * 86400.0, 3 * 86400.0 + 3600.0, PERSON)]]
    found = suggestions(lambda _: work, moment("2026-03-04T08:00"), working())
    assert [shown(each.start.astimezone(BERLIN))[:20] for each in found] == [
        f"Fri 2026-03-06 {hour:02}:00" for hour in range(8, 13)
    ], "three days after Wednesday and Thursday nobody works"
    assert all(each.left == () for each in found)


def test_where_nobody_works_there_is_no_start_to_suggest() -> None:
    assert (
        suggestions(lambda _: [], moment("2026-03-04T08:00"), working("08:00-09:00", "wed", "2026-03-04", "2026-03-11"))
        == []
    )


def test_a_rest_that_is_to_end_while_people_are_there_is_planned_so() -> None:
    text = """\
recipe: visited
version: "1.0.0"
title: Rest until people are there
status: draft
sources: {P: "test default"}
equipment: {station: {role: bioreactor, needs: [temperature, co2], positions: 1, source: P}}
procedure:
- operation: rest
  steps:
  - mark: {id: day0}
  - incubate: {id: long, until: day >= 10 h, window: 0.1 d..2 d, staffed: true, source: P}
  - ask: {id: look, text: Look, source: P}
"""
    plan = make_plan(
        load_text(text, "visited.yaml"), {}, moment("2026-03-27T08:00"), "Europe/Berlin", working(), suggest=True
    )
    (visit,) = plan.timeline.visits
    assert plan.exceptions == ("rest/long: nobody is there before the window 0.1 d..2 d ends",), "a Friday evening"
    assert shown(plan.local(visit.begin)) == "Sun 2026-03-29 09:00 +02:00", "48 h later, clocks were put forward"
    assert plan.suggested is not None
    assert all(each.left == () for each in plan.suggested), "with another start people are there"


# --- data -------------------------------------------------------------------------------------------------------------


def test_the_keys_of_a_plan_for_machines() -> None:
    data = as_data(planned("2026-03-28T08:00", STAY, "unmount: {id: out, containers: rep}", suggest=True))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert list(data) == [
        "recipe", "version", "start", "end", "zone", "days", "ended", "reason", "estimate", "parameters", "working",
        "operations", "marks", "forecasts", "visits", "materials", "totals", "samples", "exceptions", "outside",
        "suggestions",
    ]  # fmt: skip
    assert (data["recipe"], data["version"], data["zone"]) == ("tried", "1.0.0", "Europe/Berlin")
    assert data["start"] == "2026-03-28T08:00:00+01:00"
    assert data["end"].endswith("+02:00")
    assert set(data["operations"][0]) == {"operation", "title", "begin", "end", "day_begin", "day_end"}
    assert set(data["visits"][1]) == {
        "visit", "begin", "end", "day", "busy_s", "outside_s", "outside", "signs", "steps", "windows",
    }  # fmt: skip
    assert set(data["visits"][1]["windows"][0]) == {"after", "window", "earliest", "latest"}
    assert data["visits"][1]["outside"] == ["weekday"]
    assert set(data["visits"][0]["steps"][0]) == {"step", "verb", "by", "words", "signs", "begin", "end"}
    assert set(data["suggestions"][0]) == {"start", "visits_outside", "outside_s", "left"}
    keys = {
        "kind", "class", "containers", "count", "holds", "allowed", "moved_ml", "needed_ml", "most_ml", "limit_ml",
        "stated_ml",
    }  # fmt: skip
    rows = as_data(make_plan(load("shakedown"), {}, moment("2026-03-02T08:00"), "Etc/UTC", working()))["materials"]
    assert {row["kind"] for row in rows} == {"vessel", "empty bag", "bag"}
    assert all(set(row) == keys for row in rows)
