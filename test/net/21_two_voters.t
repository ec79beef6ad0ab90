#!/usr/bin/env python3
"""Two nodes without a witness, on_isolation = continue: what fails in a way that can be told fails
over by itself; of a silent host nobody knows whether it is off, and an operator has to say so."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed, SHORT + "on_isolation = continue\npeer_timeout = 1s\nrestart_attempts = 0\n", witness=False)
alpha, beta = cluster.alpha, cluster.beta
cluster.begin()

begin = now()
beta.crash()
ok(cluster.wait_alone(alpha) and cluster.writes(), "the standby's host dies: the primary goes on alone")
cluster.gap(begin, 6, "the standby's host dies")
beta.boot()
ok(cluster.wait_in_sync(alpha), "it boots: in sync again by itself")
# A voter that was restarted votes for nobody new for the time of a lease.
ok(stays(lambda: alpha.state() == "in sync", 4), "and stays so")

begin = now()
os.kill(alpha.postmaster(), signal.SIGKILL)
ok(cluster.wait_primary(beta) and cluster.writes(), "the postmaster dies for good: handed over")
cluster.gap(begin, 3.5, "handed over")
ok(cluster.wait_in_sync(beta), "in sync again by itself")

beta.crash()
status = poll(lambda: (lambda s: s if s.get("primary") is None else None)(alpha.status()), 15) or {}
ok(status and not status["failover"]["possible"], "the primary's host dies: no failover without an operator")
say(status.get("failover"))
ok(stays(lambda: not alpha.is_primary(), 4), "the standby waits, for longer than a lease")
said = alpha.ctl("promote", "--force-quorum=beta", "--yes", check=False)
say(said.stdout)
ok(cluster.wait_primary(alpha) and cluster.writes(), "the operator says that it is off: the standby takes over")
beta.boot()
ok(cluster.wait_in_sync(alpha), "the old primary boots: standby in sync by itself")
cluster.finish()
done()
