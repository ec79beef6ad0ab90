#!/usr/bin/env python3
"""HA: the replication path cut in each way under load, and restored.

It is noticed; as soon as the record without the standby is chosen the primary goes on alone; when
the path is back the standby catches up and is in sync again by itself. The primary stays primary.
"""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta, gamma = cluster.alpha, cluster.beta, cluster.gamma
cluster.begin()

cuts = {
    "the replication network's cable is pulled out": lambda: beta.host.unplug("back"),
    "packets to the standby are dropped": lambda: bed.drop(alpha.host, beta.host, "back"),
    "packets to the primary are dropped": lambda: bed.drop(beta.host, alpha.host, "back"),
    "the primary's firewall rejects": lambda: bed.reject(beta.host, alpha.host),
    "the standby's firewall rejects": lambda: bed.reject(alpha.host, beta.host),
    "the standby has no network at all": beta.host.unplug,
}
for name, cut in cuts.items():
    begin = now()
    cut()
    ok(cluster.wait_alone(alpha), f"{name}: the primary goes on alone")
    ok(cluster.writes(), f"{name}: the client writes")
    # peer_timeout 2 s, the link's time-out 2 s before it, a record
    cluster.gap(begin, 6, name)
    bed.restore()
    beta.host.plug()
    ok(cluster.wait_in_sync(alpha), f"{name}, and restored: in sync again by itself")
    ok(cluster.writes(), f"{name}, and restored: the client writes")
cluster.finish()
done()
