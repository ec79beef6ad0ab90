#!/usr/bin/env python3
"""Both nodes lose power at once, and come back in either order, the second one late or early."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta, gamma = cluster.alpha, cluster.beta, cluster.gamma
cluster.begin()


def power_cut(*hosts):
    for host in hosts:
        host.unplug()
    for host in hosts:
        host.off()


def who_is_primary():
    found = []
    cluster.wait(lambda: found.extend(n for n in cluster.nodes if n.state() in ("alone", "in sync")) or found,
                 "somebody is primary")
    cluster.became_primary(found[0])
    return found[0]


# Only one of them comes back: it was in the record, and the witness agrees.
for first in (alpha, beta):
    second = cluster.other(first)
    power_cut(alpha.host, beta.host)
    first.boot()
    ok(cluster.wait_primary(first), f"both lose power, {first.name} is back: it is primary")
    ok(cluster.writes(), "the client writes")
    second.boot()
    ok(cluster.wait_in_sync(first), f"{second.name} is back, too: in sync by itself")

# Everything loses power, the witness too.
power_cut(alpha.host, beta.host, gamma.host)
for member in (beta, gamma, alpha):
    member.boot()
primary = who_is_primary()
ok(cluster.wait_in_sync(primary), f"all three lose power and come back: {primary.name} is primary, in sync")
ok(cluster.writes(), "the client writes")
cluster.finish()
done()
