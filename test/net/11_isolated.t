#!/usr/bin/env python3
"""The primary is cut off from all others, in each way: the standby takes over, and nobody else
acknowledges. The old primary comes back as its standby by itself."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
cluster.begin()
primary = cluster.alpha


def others(node):
    return [m.host for m in cluster.members if m is not node]


def cut_out(node):
    for other in others(node):
        bed.drop(node.host, other)


def cut_in(node):
    for other in others(node):
        bed.drop(other, node.host)


def reject(node):
    """Its own firewall lets nothing in from the others, nor theirs from it."""
    for other in others(node):
        bed.reject(other, node.host)
        bed.reject(node.host, other)


cuts = {
    "its cables are pulled out": lambda node: node.host.unplug(),
    "what it sends to the others is dropped": cut_out,
    "what the others send to it is dropped": cut_in,
    "firewalls between it and the others reject": reject,
}
for name, cut in cuts.items():
    standby = cluster.other(primary)
    begin = now()
    cut(primary)
    # The clients are not cut off in the last three: both nodes could answer them.
    ok(cluster.wait_primary(standby), f"{name}: the standby takes over")
    ok(cluster.writes(), f"{name}: the client writes")
    # What it sends in the last case but one renews the others' grants until its own lease ends.
    cluster.gap(begin, 3 + 2.5 + (2.5 if cut is cut_in else 0), name)
    ok(poll(lambda: not primary.postgres_processes() or not primary.is_primary(), 10),
       f"{name}: the old primary's PostgreSQL is no primary any more")
    ok(not primary.has_vip() and not primary.has_vip(6), f"{name}: nor has it the virtual addresses")
    ok(standby.has_vip() and standby.has_vip(6), f"{name}: they are at the new one")
    bed.restore()
    primary.host.plug()
    ok(cluster.wait_in_sync(standby), f"{name}, and restored: the old primary is standby in sync")
    primary = standby
ok(cluster.writes(), "the client writes")
cluster.finish()
done()
