#!/usr/bin/env python3
"""HA: a host dies under load, with the default lease. The standby takes over by itself; the host
boots again, and its node is standby in sync by itself. Then the same with the other host, and with
the standby's, in which nothing fails over."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed, failover="")
cluster.begin()
primary = cluster.alpha

for round in (1, 2):
    standby = cluster.other(primary)
    begin = now()
    primary.crash()
    ok(cluster.wait_primary(standby), f"{primary.name}'s host dies: {standby.name} takes over")
    ok(cluster.writes(), "the client writes")
    cluster.gap(begin, 5 + 2.5, f"{primary.name}'s host dies")
    ok(standby.has_vip() and standby.has_vip(6), "the virtual addresses follow")
    primary.boot()
    ok(cluster.wait_in_sync(standby), f"{primary.name} boots: it is standby in sync by itself")
    ok(cluster.writes(), "the client writes")
    primary = standby

standby = cluster.other(primary)
begin = now()
standby.crash()
ok(cluster.wait_alone(primary) and cluster.writes(), "the standby's host dies: the primary goes on alone")
cluster.gap(begin, 6, "the standby's host dies")
standby.boot()
ok(cluster.wait_in_sync(primary), "it boots: in sync again by itself")
cluster.finish()
done()
