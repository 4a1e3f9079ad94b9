"""Begins nodes on one store, does them harm, and checks what the database says against what the work has
said in its log. It knows nothing of the crate but the tables of the store."""

import collections
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

NODE = sys.argv[1]
SECONDS = float(os.environ.get("PUNCTUAL_CHAOS", "60"))
SEED = int(os.environ.get("PUNCTUAL_SEED", "0")) or time.time_ns() % 1_000_000
NODES = 3
LEASE = 3.0
# A node that lives says so three times a lease.
TAKEOVER = LEASE + LEASE / 3
# What a busy machine, and looking every 50 ms, may add.
SLACK = 1.0
STEP = int(os.environ.get("PUNCTUAL_CHAOS_STEP", min(90, int(SECONDS / 6))))
# This program as an earlier version of the crate has it: the first nodes are of it. Those that begin later
# are not, since it need not be able to open what this version has migrated.
EARLIER = os.environ.get("PUNCTUAL_CHAOS_EARLIER")
DENSE = 100

chance = random.Random(SEED)
folder = tempfile.mkdtemp(prefix="punctual-chaos-")
wrong = []


def period_of(number):
    return 250 + 50 * (number % 16)


def faketime():
    for name in ("x86_64-linux-gnu/faketime", "aarch64-linux-gnu/faketime", "faketime"):
        path = f"/usr/lib/{name}/libfaketimeMT.so.1"
        if os.path.exists(path):
            return path
    sys.exit("libfaketime is not here: apt-get install faketime")


class Clock:
    """The wall clock of the nodes; that of the machine is left alone."""

    def __init__(self):
        self.file = os.path.join(folder, "offset")
        self.set(0)

    def set(self, offset):
        self.offset = offset
        with open(self.file + ".new", "w") as new:
            new.write(f"{offset:+d}\n")
        os.replace(self.file + ".new", self.file)

    def millis(self):
        return int((time.time() + self.offset) * 1000)


class Node:
    def __init__(self, place):
        self.place, self.life, self.process = place, 0, None
        self.begin()

    def begin(self):
        self.life += 1
        self.name = f"node-{self.place}-{self.life}"
        # Since when it has lived without a break.
        self.well_since = time.monotonic()
        self.goes_on_at = self.begins_at = None
        environment = dict(
            os.environ,
            LD_PRELOAD=faketime(),
            FAKETIME_TIMESTAMP_FILE=clock.file,
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            RUST_BACKTRACE="1",
        )
        arguments = [folder, self.name, int(LEASE * 1000), first, last, chance.randrange(1 << 40)]
        program = NODE
        if EARLIER and self.life == 1:
            program = EARLIER
            versions["earlier"] += 1
        else:
            versions["this"] += 1
        self.process = subprocess.Popen(
            [program, "--node", *map(str, arguments)], env=environment
        )

    def lives(self):
        return self.process is not None and self.process.poll() is None

    def is_well_since(self, instant):
        return self.lives() and self.goes_on_at is None and self.well_since < instant

    def harm(self):
        if not self.lives() or self.goes_on_at is not None:
            return
        if time.monotonic() - self.well_since < 1:
            # It may not listen to signals yet.
            return
        kind = chance.choice(["kill", "kill", "stop", "end"])
        harms[kind] += 1
        if kind == "kill":
            watch = Takeover(self)
            self.process.kill()
            self.process.wait()
            takeovers.append(watch.begin())
        elif kind == "stop":
            self.process.send_signal(signal.SIGSTOP)
            self.goes_on_at = time.monotonic() + chance.uniform(0.1, 2 * LEASE)
            return
        else:
            self.process.terminate()
            late = time.monotonic() + 60
            while self.process.poll() is None and time.monotonic() < late:
                # One that is stopped may have the lock of the file, and then this one waits for it.
                for node in nodes:
                    if node is not self:
                        node.go_on(time.monotonic())
                time.sleep(0.05)
            if self.process.poll() != 0:
                wrong.append(f"{self.name} ends with {self.process.returncode}")
        self.process = None
        self.begins_at = time.monotonic() + chance.uniform(0, 2)

    def go_on(self, now):
        if self.goes_on_at is not None and now >= self.goes_on_at:
            self.process.send_signal(signal.SIGCONT)
            self.goes_on_at, self.well_since = None, now
        elif self.begins_at is not None and now >= self.begins_at:
            self.begin()
        elif self.process is not None and self.process.poll() not in (None, 0):
            wrong.append(f"{self.name} ended by itself with {self.process.returncode}")
            self.process, self.begins_at = None, now


class Takeover:
    """How long a dead node keeps what it had taken."""

    def __init__(self, node):
        self.name = node.name
        found = query("SELECT node FROM punctual_nodes WHERE name = ?", (node.name,))
        self.node = found[0][0] if found else None

    def begin(self):
        self.began = time.monotonic()
        return self

    def is_over(self, now):
        """Whether it is; what has been seen is noted."""
        if self.node is None:
            return True
        held = query(
            "SELECT count(*) FROM punctual_ledger WHERE node = ? AND fate IS NULL", (self.node,)
        )[0][0]
        took = now - self.began
        if not any(node.is_well_since(self.began) for node in nodes):
            # Nobody was there all along who could take over.
            return True
        if held == 0:
            took_over.append(took)
            return True
        if took > TAKEOVER + SLACK:
            wrong.append(f"{held} rows of {self.name} are not taken over after {took:.1f} s")
            return True
        return False


def look_at_lock(now):
    """While somebody has the lock of the file, as one that was stopped in the midst of a write, nobody can
    take over."""
    path = os.path.join(folder, "jobs.db")
    if not os.path.exists(path):
        return
    connection = sqlite3.connect(path, timeout=0.5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        for node in nodes:
            node.well_since = now
    finally:
        connection.close()


def query(sql, parameters=()):
    connection = sqlite3.connect(os.path.join(folder, "jobs.db"), timeout=10)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def live_through():
    """Does harm for so long, then lets all come to rest, and ends the nodes."""
    end = time.monotonic() + SECONDS
    next_harm, next_step = time.monotonic() + 2, time.monotonic() + 5
    highest = last
    while time.monotonic() < end or clock.millis() < highest:
        now = time.monotonic()
        if now < end:
            # What is added by a clock that is ahead is due by that: two seconds later at most.
            highest = max(highest, clock.millis() + 3000)
        for node in nodes:
            node.go_on(now)
        look_at_lock(now)
        takeovers[:] = [takeover for takeover in takeovers if not takeover.is_over(now)]
        if now >= next_harm and now < end:
            chance.choice(nodes).harm()
            next_harm = now + chance.uniform(0.3, 3)
        if STEP and now >= next_step and now < end:
            clock.set(0 if clock.offset else chance.choice([-STEP, STEP]))
            harms["step"] += 1
            next_step = now + chance.uniform(0.5, 1.5) * STEP
        elif now >= end and clock.offset:
            clock.set(0)
        time.sleep(0.05)
    open(os.path.join(folder, "enough"), "w").close()
    rest = time.monotonic() + 4 * LEASE + 5
    while time.monotonic() < rest:
        for node in nodes:
            node.go_on(time.monotonic())
        time.sleep(0.05)
    for node in nodes:
        if node.lives():
            node.process.terminate()
            if node.process.wait(timeout=60) != 0:
                wrong.append(f"{node.name} ends with {node.process.returncode}")


def check():
    said = collections.defaultdict(list)
    counts = collections.Counter()
    with open(os.path.join(folder, "log")) as log:
        for line in log:
            entry = json.loads(line)
            if "fire_time" in entry:
                key = (entry["job"], entry["fire_time"], entry["on_request"])
                said[key].append(entry)
                if entry["what"] == "begun":
                    counts["runs"] += 1
                    early = entry["fire_time"] - entry["wall"] / 1000
                    if early > 1:
                        wrong.append(f"{entry['job']} begins {early:.0f} ms early: {entry}")
            else:
                said[(entry["what"], entry["job"])].append(entry)
    rows = query(
        "SELECT job, kind, fire_time, last, count, node, fate, fence, attempt, recover, incarnation"
        " FROM punctual_ledger"
    )
    names = "job kind fire_time last count node fate fence attempt recover incarnation".split()
    of_job = collections.defaultdict(list)
    for row in rows:
        row = dict(zip(names, row))
        of_job[row["job"]].append(row)
        counts["rows"] += 1
        counts[(row["fate"] or "open").split(" into ")[0]] += 1
        # Jobs that are changed have no end, so what was given back at the end waits.
        waits = row["node"] is None and row["job"].startswith("changed-")
        if row["fate"] is None and not waits:
            wrong.append(f"it has no fate: {row}")
        if row["kind"] != 2:
            check_row(row, said[(row["job"], row["fire_time"], row["kind"] == 1)])
    for number in range(DENSE):
        check_coverage(number, of_job[f"dense-{number}"])
    for key, entries in list(said.items()):
        if key[0] in ("added", "added, recovers"):
            counts["one-shots"] += len(entries)
            check_once(key[1], key[0] != "added", of_job[key[1]])
    for number in range(10):
        job = f"changed-{number}"
        asked, asking = len(said[("asked", job)]), len(said[("asking", job)])
        requested = sum(row["kind"] == 1 for row in of_job[job])
        counts["asked"] += asked
        if not asked <= requested <= asking:
            wrong.append(f"{job}: {asked} runs were asked for, {asking} at most; {requested} are there")
    return counts


def check_row(row, entries):
    """What the ledger says of a fire time is what its work has said."""
    begun = [entry for entry in entries if entry["what"] == "begun"]
    ended = [entry for entry in entries if entry["what"] == "ended"]
    dense = row["job"].startswith("dense-")
    fate = row["fate"] or ""
    if fate == "ran: succeeded" and not any(e["fence"] == row["fence"] for e in ended):
        wrong.append(f"its work has not said that it ended: {row}")
    if not row["recover"] and len(begun) > 1 and (dense or row["job"].startswith("once-")):
        wrong.append(f"it ran {len(begun)} times: {row}")
    ran_for_nothing = fate.startswith(("missed", "skipped", "coalesced"))
    if ran_for_nothing and begun and dense:
        wrong.append(f"its work was called: {row}")
    if row["recover"] and fate.startswith("abandoned"):
        wrong.append(f"it was to be run again: {row}")


def check_coverage(number, rows):
    """Each fire time has one row."""
    period = period_of(number)
    due = (last - first) // period + 1
    covered = collections.Counter()
    for row in rows:
        if row["kind"] != 0:
            continue
        begin, rest = divmod(row["fire_time"] - first, period)
        end, other = divmod(row["last"] - first, period)
        if rest or other or row["count"] != end - begin + 1:
            wrong.append(f"these are no fire times: {row}")
        covered.update(range(begin, end + 1))
    lost = [at for at in range(due) if not covered[at]]
    doubled = [at for at, times in covered.items() if times > 1]
    if len({row["incarnation"] for row in rows}) != 1:
        wrong.append(f"dense-{number} was added more than once")
    for what, which in (("lost", lost), ("doubled", doubled)):
        if which:
            at = first + which[0] * period
            wrong.append(f"dense-{number}: {len(which)} of {due} fire times {what}, the first {at}")


def check_once(job, recovers, rows):
    """A one-shot whose adding was answered has run, or its fate says why not."""
    fates = [row["fate"] for row in rows if row["kind"] == 0]
    if len(fates) != 1:
        wrong.append(f"{job} has {len(fates)} rows: {fates}")
    elif recovers and fates[0] != "ran: succeeded":
        wrong.append(f"{job} recovers, and is {fates[0]}")
    elif fates[0] not in ("ran: succeeded", "ran: cancelled", "abandoned"):
        wrong.append(f"{job} is {fates[0]}")


print(f"chaos: {SECONDS:.0f} s, seed {SEED}, in {folder}", flush=True)
harms, versions = collections.Counter(), collections.Counter()
took_over, takeovers = [], []
clock = Clock()
first = clock.millis() // 1000 * 1000 + 2000
last = first + int(SECONDS * 1000)
nodes = [Node(place) for place in range(NODES)]
try:
    live_through()
finally:
    for node in nodes:
        if node.lives():
            node.process.kill()
counts = check()
print("harm:", dict(harms), "nodes of versions:", dict(versions))
print("seen:", dict(counts))
took_over.sort()
if took_over:
    middle, worst = took_over[len(took_over) // 2], took_over[-1]
    print(f"takeovers: {len(took_over)}, after {middle:.2f} s, at most {worst:.2f} s of {TAKEOVER:.2f}")
kinds = collections.defaultdict(list)
for what in wrong:
    kinds[re.sub(r"[-0-9.]+", "_", what.split(": {")[0])].append(what)
for those in kinds.values():
    print(f"WRONG, {len(those)} times, as here: {those[0]}")
if wrong:
    sys.exit(f"{len(wrong)} promises were broken; seed {SEED}, see {folder}")
