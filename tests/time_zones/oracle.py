"""Prints when triggers fire in every zone, by Python's zoneinfo and nothing of punctual.

A line has the zone, the kind of trigger and what it is made of, an instant, and the first fire time
strictly later, divided by tabs; instants are seconds since 1970. The first line has the version of
the data. Needs the package tzdata.
"""

import random
import sys
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones, reset_tzpath

import tzdata

reset_tzpath(to=[])  # the package, not the machine

QUESTIONS = int(sys.argv[1])
FIRST, LAST = datetime(1970, 1, 2, tzinfo=timezone.utc), datetime(2150, 12, 1, tzinfo=timezone.utc)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def offset(zone, t):
    return int((EPOCH + timedelta(seconds=t)).astimezone(zone).utcoffset().total_seconds())


def transition(zone, low, high):
    """The first second after `low` at which the offset is that of `high`."""
    before = offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def fire(zone, day, at):
    """A time of day of a date: the first of two, or the end of the gap that it is in."""
    naive = datetime.combine(day, at)
    reading = int((naive - datetime(1970, 1, 1)).total_seconds())
    first, second = (
        reading - int(naive.replace(tzinfo=zone, fold=fold).utcoffset().total_seconds())
        for fold in (0, 1)
    )
    if first + offset(zone, first) == reading:
        return first
    # In a gap both folds name an instant, on either side of the transition.
    return transition(zone, min(first, second) - 1, max(first, second))


def daily(zone, after, ats, named):
    """The first fire of dates that are `named`, at these times of day."""
    day = (EPOCH + timedelta(seconds=after)).astimezone(zone).date() - timedelta(days=2)
    while True:
        if named(day):
            found = [t for t in (fire(zone, day, at) for at in ats) if t > after]
            if found:
                return min(found)
        day += timedelta(days=1)


def shown(zone, after, step):
    """The first instant at which the wall clock shows a multiple of `step` minutes past the hour."""
    step *= 60
    t = after + 1
    while True:
        here = offset(zone, t)
        match = t + -(t + here) % step
        if offset(zone, match) == here:
            return match
        # The clock is set on the way there.
        t = transition(zone, t, match)


def questions(zone_name):
    zone = ZoneInfo(zone_name)
    rng = random.Random(zone_name)
    span = int((LAST - FIRST).total_seconds())
    start = int((FIRST - EPOCH).total_seconds())
    # The transitions of this zone, to ask around.
    changes, t = [], start
    while t < start + span:
        if offset(zone, t) != offset(zone, t + 10 * 86400):
            changes.append(transition(zone, t, t + 10 * 86400))
        t += 10 * 86400
    for number in range(QUESTIONS):
        if changes and number % 2:
            after = rng.choice(changes) + rng.randrange(-2 * 86400, 86400)
        else:
            after = start + rng.randrange(span)
        at = time(rng.randrange(24), rng.choice([0, 15, 30, 59]), rng.choice([0, 0, 30]))
        if changes and rng.random() < 0.5:
            # At a time of day that a change may swallow or repeat.
            change = rng.choice(changes)
            local = change + offset(zone, change - 1) + rng.randrange(-3600, 3600)
            at = (datetime(1970, 1, 1) + timedelta(seconds=local // 60 * 60)).time()
        kind = rng.choice(["cron", "weekday", "calendar", "timetable", "wild"])
        clock = at.strftime("%H:%M:%S")
        if kind == "cron":
            spec, found = clock, daily(zone, after, [at], lambda day: True)
        elif kind == "weekday":
            weekday = rng.randrange(7)
            spec = f"{DAYS[weekday]} {clock}"
            found = daily(zone, after, [at], lambda day: day.weekday() == weekday)
        elif kind == "calendar":
            step, first = rng.randrange(1, 9), date(1960, 1, 1) + timedelta(days=rng.randrange(3000))
            spec = f"{step} {first} {clock}"
            found = daily(zone, after, [at], lambda day: (day - first).days % step == 0)
        elif kind == "timetable":
            step, weekday = rng.randrange(2, 5), rng.randrange(7)
            first = date(1960, 1, 4) + timedelta(days=7 * rng.randrange(300))
            other = time(rng.randrange(24), rng.randrange(60))
            spec = f"{step} {DAYS[weekday]} {first} {clock} {other.strftime('%H:%M:%S')}"
            counts = lambda day: day.weekday() == weekday and (day - first).days // 7 % step == 0
            found = daily(zone, after, [at, other], counts)
        else:
            step = rng.choice([5, 10, 15, 20, 30])
            spec, found = str(step), shown(zone, after, step)
        yield f"{zone_name}\t{kind}\t{spec}\t{after}\t{found}"


print(tzdata.IANA_VERSION)
for name in sorted(available_timezones()):
    for line in questions(name):
        print(line)
