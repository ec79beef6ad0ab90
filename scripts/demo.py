#!/usr/bin/env python3
"""The story that scripts/demo tells, on a test bed of network namespaces (test/net).

Two nodes and a witness are hosts of their own, joined by two networks; a client writes through the
virtual address and keeps a list, outside of the database, of the commits acknowledged to it. While
it never stops to write, things are broken and repaired. A picture of it all is drawn meanwhile: in
place on a terminal, otherwise a line at every change and every two seconds.
"""

import os
import shutil
import signal
import sys
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "test", "net"))

import netbed  # noqa: E402
from cluster import VIP, Cluster, now  # noqa: E402
from netbed import Bed, BedError, enter, poll, run  # noqa: E402
from pair import Load  # noqa: E402

TERMINAL = sys.stdout.isatty()
EVERY = 0.25  # s between two pictures


def out(text=""):
    print(text, flush=True)


class Picture:
    """How things are now, drawn by a thread of its own."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.load = None
        self.drawn = 0  # lines on the terminal
        self.last = None
        self.last_at = 0
        self.samples = []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()

    def run(self):
        while not self.stop.wait(EVERY):
            nodes = [self.node(m) for m in self.cluster.members]
            with self.lock:
                self.draw(nodes)

    def end(self):
        self.stop.set()
        self.thread.join(10)

    def heading(self, text):
        with self.lock:
            out(f"\n{text}")
            self.drawn = 0
            self.last = None

    def say(self, text):
        """A line that stays."""
        with self.lock:
            if self.drawn:
                sys.stdout.write(f"\x1b[{self.drawn}A\x1b[J")
            out(f"  {text}")
            self.drawn = 0
            self.last = None

    @staticmethod
    def node(member):
        """One short phrase for each: what it is, and whether the address is there."""
        if not member.host.up():
            return "off"
        status = member.status()
        if not status:
            return "tandemd does not answer"
        if member is member.cluster.gamma:
            return "witness"
        mine = [n for n in status["nodes"] if n["self"]][0]
        text = mine["role"]
        if text == "primary":
            text += f", {status['state']}"
        elif status["state"] not in ("standby", mine["role"]):
            text += f", {status['state']}"
        busy = (status.get("postgres") or {}).get("busy")
        if busy and busy.get("percent") is not None:
            text += f" ({busy['what']} {busy['percent']} %)"
        if any(v["state"] == "on" for v in status.get("vip", [])):
            text += " +VIP"
        return text

    def rate(self):
        """Commits a second, of the last second, and how long ago the last one was."""
        if self.load is None:
            return None
        count = self.load.acknowledged()
        at = now()
        if not self.samples or count > self.samples[-1][1]:
            self.changed = at
        self.samples = [s for s in self.samples if s[0] > at - 1.2] + [(at, count)]
        first = self.samples[0]
        speed = (count - first[1]) / (at - first[0]) if at > first[0] else 0
        return speed, at - self.changed

    def draw(self, nodes):
        rate = self.rate()
        client = ""
        if rate is not None:
            client = f"{rate[0]:4.0f} commits a second" + (
                f", none for {rate[1]:.1f} s" if rate[1] > 0.5 else "")
        names = [m.name for m in self.cluster.members]
        if TERMINAL:
            columns = shutil.get_terminal_size().columns
            lines = [f"  {name:7} {text}" for name, text in zip(names, nodes)] + [f"  client  {client}"]
            if self.drawn:
                sys.stdout.write(f"\x1b[{self.drawn}A")
            for line in lines:
                sys.stdout.write(line[: columns - 1] + "\x1b[K\n")
            sys.stdout.flush()
            self.drawn = len(lines)
            return
        key = (nodes, rate is not None and rate[1] > 0.5)
        if key == self.last and now() - self.last_at < 2:
            return
        self.last, self.last_at = key, now()
        out("  " + "; ".join(f"{n}: {t}" for n, t in zip(names, nodes)) + (f"; {client}" if client else ""))


class Story:
    def __init__(self):
        bed = Bed(enter())
        self.cluster = Cluster(bed, failover="", tls=True)  # as it is by default: lease 5 s
        self.picture = Picture(self.cluster)
        self.bed = bed
        self.results = []
        self.act = 0

    def heading(self, text):
        self.act += 1
        self.picture.heading(f"{self.act}. {text}")

    def need(self, condition, what):
        if not condition:
            self.picture.end()
            self.cluster.tell()
            raise BedError(f"in vain: {what}")

    def event(self, name, do, until, settle=1.5):
        """Something happens; then it is as it should be, and the client writes."""
        begin = now()
        do()
        self.need(until(), name)
        self.need(self.load.wait_for(100), "the client writes again")
        time.sleep(settle)  # for the one who looks, and so that the gap has ended
        self.results.append((name, self.load.longest_gap(begin)))

    def restored(self, name, do, primary):
        begin = now()
        do()
        self.need(self.cluster.wait_in_sync(primary), name)
        self.picture.say(f"in sync again after {now() - begin:.1f} s")
        time.sleep(1.5)

    def tell(self):
        c = self.cluster
        alpha, beta = c.alpha, c.beta
        self.picture.start()

        self.heading("Two servers and a witness: alpha gets a database, beta a copy of it")
        c.make()
        self.need(c.seed(), "beta is seeded")

        self.heading(f"A client writes through the virtual address {VIP[4]}")
        self.load = self.picture.load = Load(c.client, VIP[4], clients=4, rate=400, timeout=1000)
        self.need(self.load.wait_for(800), "the client writes")

        self.heading("The replication path is cut: beta is dropped from the record, alpha goes on alone")
        self.event("replication path cut", lambda: beta.host.unplug("back"), lambda: c.wait_alone(alpha))
        self.heading("It is restored: beta catches up")
        self.restored("in sync again", lambda: beta.host.plug("back"), alpha)

        self.heading("alpha's postmaster is killed: restarted where it is")
        self.event("postmaster killed", lambda: os.kill(alpha.postmaster(), signal.SIGKILL),
                   lambda: c.wait_in_sync(alpha))

        self.heading("alpha's host dies, all of it at once: beta takes over")
        self.event("host killed", alpha.crash, lambda: c.wait_primary(beta))
        self.heading("alpha boots: it becomes beta's standby by itself")
        self.restored("in sync again", alpha.boot, beta)
        # For the time of a lease a node that was restarted votes for nobody new, itself included.
        self.need(c.wait(lambda: beta.status().get("failover", {}).get("possible"), "a failover is possible"),
                  "a failover is possible")

        self.heading("Switchover, back to alpha")
        self.event("switchover", lambda: beta.ctl("switchover"),
                   lambda: c.wait_primary(alpha) and c.wait_in_sync(alpha))

        self.picture.end()
        self.load.process.end()
        out("\nThe client's list of acknowledged commits, looked up in the database")
        lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
        beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")
        good = True
        for node in c.nodes:
            result = node.host.run(
                [netbed.TOP + "/test/client/ledger", "check", "--conninfo",
                 "host=/run/postgresql user=postgres dbname=postgres", "--file", self.load.file], check=False)
            out(f"  on {node.name}: {result.stdout.strip()}")
            good = good and result.returncode == 0
        out("\nThe longest time without an acknowledged commit")
        for name, gap in self.results:
            out(f"  {name:22} {gap:6.2f} s")
        return good


def main():
    netbed.say = lambda text: out("\n".join("  | " + line for line in str(text).splitlines()))
    story = None
    try:
        story = Story()
        good = story.tell()
    except BedError as error:
        if story is not None:
            story.picture.stop.set()
        sys.exit(f"demo: {error}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
