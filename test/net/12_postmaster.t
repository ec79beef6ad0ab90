#!/usr/bin/env python3
"""HA: the postmaster is killed under load. It is restarted where it is; when the attempts are used
up the standby takes over."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed, SHORT + "restart_attempts = 2\n")
alpha, beta = cluster.alpha, cluster.beta
cluster.begin()

for attempt in (1, 2):
    begin = now()
    postmaster = alpha.postmaster()
    os.kill(postmaster, signal.SIGKILL)
    ok(cluster.writes(), f"postmaster killed, {attempt}: the client writes again")
    cluster.gap(begin, 2.5, f"postmaster killed, {attempt}")
    ok(alpha.postmaster() not in (None, postmaster) and alpha.has_vip(),
       f"postmaster killed, {attempt}: restarted where it was")
    ok(cluster.wait_in_sync(alpha), f"postmaster killed, {attempt}: in sync again")

begin = now()
os.kill(alpha.postmaster(), signal.SIGKILL)
ok(cluster.wait_primary(beta), "killed once more: the standby takes over")
ok(cluster.writes(), "the client writes")
cluster.gap(begin, 2.5, "handed over")
ok(beta.has_vip() and not alpha.has_vip(), "the virtual address follows")
ok(cluster.wait_in_sync(beta), "the old primary is standby in sync by itself")

# All processes at once, the postmaster among them: nothing is left that could hold a connection. The
# postmaster still is the child of tandemd, which has become another program since, and does not know it.
beta.daemon.kill(signal.SIGHUP)
ok(poll(lambda: "starting again with" in read(os.path.join(beta.host.disk, "tandemd.log")), 10)
   and cluster.wait_in_sync(beta), "the new primary's tandemd has read its configuration anew")
begin = now()
postmaster = beta.postmaster()
beta.signal(signal.SIGKILL)
ok(cluster.writes(), "all of PostgreSQL killed: the client writes again")
cluster.gap(begin, 2.5, "all of PostgreSQL killed")
ok(poll(lambda: not os.path.exists(f"/proc/{postmaster}"), 5), "nothing is left of its postmaster")
ok("did not start" not in beta.events(), "the first attempt to start it has succeeded")
ok(cluster.wait_in_sync(beta), "in sync again")
cluster.finish()
done()
