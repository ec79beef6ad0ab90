#!/usr/bin/env python3
"""The witness lost: nothing changes. Witness and standby lost at once: the primary has no majority,
and service stops until either of them is back."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta, gamma = cluster.alpha, cluster.beta, cluster.gamma
cluster.begin()

begin = now()
gamma.crash()
ok(poll(lambda: not [n for n in alpha.status()["nodes"] if n["name"] == "gamma"][0]["heard"], 15),
   "the witness is lost: the primary knows")
ok(not alpha.status()["failover"]["possible"], "it says that a failover is not possible now")
say(alpha.status()["failover"]["why"])
ok(cluster.writes() and alpha.state() == "in sync", "service goes on, in sync")
gamma.boot()
ok(poll(lambda: alpha.status()["failover"]["possible"], 15), "the witness is back: a failover is possible")
cluster.gap(begin, 0.7, "the witness lost and back")


def both_lost(name, back):
    gamma.crash()
    beta.crash()
    ok(poll(lambda: not alpha.postgres_processes() or not alpha.is_primary(), 10),
       "witness and standby lost: no majority, the primary stops")
    ok(not alpha.has_vip(), "the virtual address is gone")
    count = cluster.load.acknowledged()
    ok(stays(lambda: cluster.load.acknowledged() == count, 1), "nothing is acknowledged")
    back()
    ok(cluster.writes(), f"{name}: service is back")


# The standby was lost while nobody could choose a record without it: it is still in the record.
both_lost("the standby comes back", beta.boot)
ok(cluster.wait(lambda: "in sync" in (alpha.state(), beta.state()), "in sync"), "in sync without the witness")
if beta.state() == "in sync":
    cluster.became_primary(beta)
gamma.boot()
ok(cluster.writes(), "the witness is back: the client writes")
primary = alpha if alpha.state() == "in sync" else beta
ok(cluster.wait(lambda: primary.status()["failover"]["possible"], "possible", 15), "a failover is possible")
if primary is beta:
    beta.ctl("switchover")
    ok(cluster.wait_primary(alpha) and cluster.wait_in_sync(alpha), "switched back")

# Witness first: the primary goes on alone with it.
both_lost("the witness comes back", gamma.boot)
ok(cluster.wait_alone(alpha), "the primary is alone")
beta.boot()
ok(cluster.wait_in_sync(alpha), "the standby is back, and in sync by itself")
cluster.finish()
done()
