#!/usr/bin/env python3
"""Paused processes (SIGSTOP, SIGCONT), as by a debugger, a frozen disk or a frozen machine. Whoever
was primary and wakes up must not acknowledge anything."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed, SHORT + "probe_timeout = 3s\n")
cluster.begin()
primary = cluster.alpha


def taken_over(name, asleep, begin):
    """The standby takes over from the paused primary, which wakes up then."""
    global primary
    standby = cluster.other(primary)
    ok(cluster.wait_primary(standby), f"{name}: the standby takes over")
    ok(cluster.writes(), f"{name}: the client writes")
    cluster.gap(begin, 3 + 2.5, name)
    cluster.resume(asleep)
    ok(cluster.wait_in_sync(standby), f"{name}: it wakes up, and is standby in sync by itself")
    ok(standby.has_vip() and not primary.has_vip(), f"{name}: it has no virtual address")
    ok(cluster.writes(), f"{name}: the client writes")
    primary = standby


# tandemd alone sleeps: the lease ends, and the extension stops PostgreSQL.
begin = now()
asleep = [primary.daemon.pid]
cluster.pause(asleep)
ok(poll(lambda: not primary.postgres_processes(), 3 + 3), "tandemd sleeps: PostgreSQL stops by itself")
ok(poll(lambda: not primary.has_vip(), 3), "tandemd sleeps: the virtual address goes by itself")
taken_over("tandemd sleeps", asleep, begin)

# A short sleep of it is not noticed.
begin = now()
asleep = [primary.daemon.pid]
postmaster = primary.postmaster()
cluster.pause(asleep)
time.sleep(0.8)  # the fault itself: longer than a heartbeat, shorter than the lease
cluster.resume(asleep)
ok(cluster.writes() and primary.postmaster() == postmaster, "tandemd sleeps 0.8 s: nothing happens")
cluster.gap(begin, 0.8, "tandemd sleeps 0.8 s")

# All of PostgreSQL sleeps, tandemd does not: it is hung, and is killed and restarted.
begin = now()
asleep = primary.postgres_processes()
cluster.pause(asleep)
ok(poll(lambda: primary.postmaster() not in (None, postmaster), 20),
   "PostgreSQL sleeps: it is killed and restarted where it is")
ok(cluster.writes(), "PostgreSQL sleeps: the client writes again")
cluster.gap(begin, 3 + 4, "PostgreSQL sleeps")
cluster.resume(asleep)
ok(cluster.wait_in_sync(primary), "PostgreSQL sleeps: in sync again")

# All processes of the host sleep, in the middle of acknowledging.
begin = now()
asleep = [pid for pid in primary.host.processes().values() if pid != primary.host.pid]
cluster.pause(asleep)
taken_over("the host sleeps", asleep, begin)

# The same, but PostgreSQL wakes up first.
begin = now()
asleep = [primary.daemon.pid]
database = primary.postgres_processes()
cluster.pause(asleep + database)
standby = cluster.other(primary)
ok(cluster.wait_primary(standby) and cluster.writes(), "both sleep: the standby takes over")
cluster.resume(database)
ok(poll(lambda: not primary.postgres_processes(), 10),
   "PostgreSQL wakes up before tandemd: it stops by itself")
cluster.resume(asleep)
ok(cluster.wait_in_sync(standby), "it is standby in sync by itself")
primary = standby

# The postmaster alone: its sessions go on, and new ones hang.
begin = now()
postmaster = primary.postmaster()
cluster.pause([postmaster])
ok(poll(lambda: primary.postmaster() not in (None, postmaster), 30) or primary.state() != "in sync",
   "the postmaster sleeps: noticed")
ok(cluster.writes(), "the postmaster sleeps: the client writes")
cluster.resume([postmaster])
ok(cluster.wait_in_sync(primary), "in sync again")

# All of the standby's PostgreSQL sleeps: the primary goes on, and the standby is restarted where it is.
standby = cluster.other(primary)
postmaster = standby.postmaster()
begin = now()
asleep = standby.postgres_processes()
cluster.pause(asleep)
ok(cluster.writes(), "the standby's PostgreSQL sleeps: the client writes")
ok(poll(lambda: standby.postmaster() not in (None, postmaster), 30), "it is killed and restarted where it is")
ok(cluster.wait_in_sync(primary), "in sync again by itself")
ok("the standby is hung" in read(os.path.join(standby.host.disk, "tandemd.log")), "the log says that it was hung")
cluster.finish()
done()
