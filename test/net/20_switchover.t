#!/usr/bin/env python3
"""Switchover there and back under load, and with nothing else to do; pause and resume."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
cluster.begin()
primary = cluster.alpha

for name in ("under load", "and back"):
    standby = cluster.other(primary)
    begin = now()
    said = primary.ctl("switchover", check=False)
    say(said.stdout)
    ok(said.returncode == 0, f"switchover {name}: tandemctl says that it is done")
    ok(cluster.wait_primary(standby) and cluster.writes(), f"switchover {name}: the client writes")
    cluster.gap(begin, 2, f"switchover {name}")
    ok(standby.has_vip() and not primary.has_vip(), f"switchover {name}: the virtual address is there")
    ok(cluster.wait_in_sync(standby), f"switchover {name}: in sync again")
    primary = standby

# Without a standby in sync there is nobody to hand over to.
standby = cluster.other(primary)
standby.host.unplug()
ok(cluster.wait_alone(primary), "the standby is away")
said = primary.ctl("switchover", check=False)
say(said.stdout)
ok(said.returncode != 0 and cluster.writes(), "switchover is refused, the primary goes on")
standby.host.plug()
ok(cluster.wait_in_sync(primary), "the standby is back")

# Maintenance: what happens is observed, and nothing is done about it.
for node in cluster.nodes:
    node.ctl("pause")
ok(poll(lambda: primary.status()["paused"], 5), "paused")
standby.signal(signal.SIGKILL)
ok(poll(lambda: standby.status()["postgres"]["state"] == "down", 10), "the standby is killed: it is seen")
ok(stays(lambda: standby.status()["postgres"]["state"] == "down" and primary.state() != "alone", 2),
   "and nothing is done")
for node in cluster.nodes:
    node.ctl("resume")
ok(cluster.wait_in_sync(primary), "resumed: it is started, in sync again")
cluster.finish()
done()
