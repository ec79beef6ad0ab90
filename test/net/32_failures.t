#!/usr/bin/env python3
"""PostgreSQL fails on the primary in other ways than a dead postmaster: a backend crashes, the server
does not start any more, starts and hangs, its data directory is gone. Each ends in a restart where it
is or in a failover, and says why."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed, SHORT + "restart_attempts = 2\n[postgres]\nstart_timeout = 4s\n")
alpha, beta = cluster.alpha, cluster.beta
cluster.begin()


def log(node):
    return read(os.path.join(node.host.disk, "tandemd.log"))


# A server process crashes: PostgreSQL recovers by itself, and keeps its postmaster.
begin = now()
postmaster = alpha.postmaster()
walwriter = alpha.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
os.kill(alpha.host.processes()[int(walwriter)], signal.SIGKILL)
ok(cluster.writes(), "a server process crashes: the client writes again")
cluster.gap(begin, 2.5, "a server process crashes")
ok(alpha.postmaster() == postmaster and alpha.has_vip(), "nothing was restarted, nothing failed over")
ok(cluster.wait_in_sync(alpha), "in sync again")

# The data directory is gone: no attempt to restart is made.
begin = now()
os.rename(alpha.data, alpha.data + ".away")
ok(cluster.wait_primary(beta) and cluster.writes(), "the primary's data directory is gone: the standby takes over")
cluster.gap(begin, 4, "data directory gone")
ok("there is no data directory" in log(alpha), "the log says why")
ok(poll(lambda: not alpha.postgres_processes(), 5), "nothing of the old primary lives")
os.rename(alpha.data + ".away", alpha.data)
ok(cluster.wait_in_sync(beta, 60), "it is back: standby in sync by itself")

# The configuration does not let it start.
conf = os.path.join(beta.etc, "postgresql.conf")
whole = read(conf)
with open(conf, "a", encoding="utf-8") as f:
    f.write("shared_preload_libraries = 'there_is_no_such_library'\n")
begin = now()
os.kill(beta.postmaster(), signal.SIGKILL)
ok(cluster.wait_primary(alpha) and cluster.writes(), "it dies and does not start: the standby takes over")
cluster.gap(begin, 8, "does not start")
ok("did not start (exit status 1)" in log(beta), "the log says so, and where to look")
with open(conf, "w", encoding="utf-8") as f:
    f.write(whole)
ok(cluster.wait_in_sync(alpha, 60), "mended: standby in sync by itself")

# It starts and hangs, each time.
begin = now()
seen = {alpha.postmaster()}
os.kill(alpha.postmaster(), signal.SIGKILL)
starts = 0
while beta.status().get("primary") != "beta" and now() - begin < 60:
    postmaster = alpha.postmaster()
    if postmaster and postmaster not in seen:
        try:
            os.kill(postmaster, signal.SIGSTOP)
        except ProcessLookupError:
            continue
        seen.add(postmaster)
        starts += 1
ok(cluster.wait_primary(beta) and cluster.writes(), f"it starts and hangs, {starts} times: the standby takes over")
cluster.gap(begin, 40, "starts and hangs")
ok("it is killed" in log(alpha), "the log says that it was killed")
ok(cluster.wait_in_sync(beta, 60), "standby in sync by itself")
cluster.finish()
done()
