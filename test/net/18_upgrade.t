#!/usr/bin/env python3
"""tandemd is upgraded (ended and started again) under load, in whatever way it ends. PostgreSQL is
not stopped, its clients do not notice."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta, gamma = cluster.alpha, cluster.beta, cluster.gamma
cluster.begin()
postmasters = [node.postmaster() for node in cluster.nodes]

begin = now()
for member in (alpha, beta, gamma):
    for number in (signal.SIGTERM, signal.SIGKILL):
        member.daemon.end(number)
        member.start()
        ok(poll(lambda: member.status().get("state"), 10), f"{member.name}: tandemd ended by {number.name}, it is back")
        ok(cluster.wait_in_sync(alpha) and cluster.writes(), f"{member.name}: in sync, the client writes")
    member.daemon.kill(signal.SIGHUP)
    ok(poll(lambda: member.daemon.ended() or member.status().get("state"), 10) and not member.daemon.ended(),
       f"{member.name}: tandemd reads its configuration anew")
    ok(cluster.wait_in_sync(alpha) and cluster.writes(), f"{member.name}: in sync, the client writes")
cluster.gap(begin, 0.7, "upgrades")
ok([node.postmaster() for node in cluster.nodes] == postmasters, "PostgreSQL was not restarted")
ok(alpha.has_vip(), "the virtual address stayed")

# For as long as the lease lasts; then it is what the loss of a host is.
begin = now()
alpha.daemon.end(signal.SIGKILL)
ok(cluster.wait_primary(beta) and cluster.writes(), "tandemd is killed and does not come back: the standby takes over")
cluster.gap(begin, 3 + 2.5, "tandemd killed")
ok(poll(lambda: not alpha.postgres_processes(), 5), "the old primary's PostgreSQL is gone without it")
ok(not alpha.has_vip(), "and so is the virtual address")
alpha.start()
ok(cluster.wait_in_sync(beta), "tandemd is back: standby in sync by itself")
cluster.finish()
done()
