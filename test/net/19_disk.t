#!/usr/bin/env python3
"""The primary's disk for WAL is full: nothing can be written there, nor by a restarted server. The
standby takes over. When there is room again the old primary rejoins."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed, SHORT + "probe_timeout = 3s\n", settings="max_wal_size = 64MB\nmin_wal_size = 32MB\n")
alpha, beta = cluster.alpha, cluster.beta

# The data directory is on a file system of its own, in memory, which outlives the host's crashes.
os.mkdir(alpha.data, 0o700)
run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=700", "tmpfs", alpha.data])
run(["chown", "postgres:", alpha.data])
alpha.host.off()
alpha.host.boot()
cluster.begin()

begin = now()
filler = os.path.join(alpha.data, "pg_tandem", "filler")
alpha.host.run(["sh", "-c", f"cat /dev/zero >{filler} 2>/dev/null"], check=False)
ok(True, "the disk is filled up")
ok(cluster.wait_primary(beta), "the disk of the primary is full: the standby takes over")
ok(cluster.writes(), "the client writes")
cluster.gap(begin, 30, "disk full")
say("\n".join(line for line in alpha.events().split("\n")[-15:]))
alpha.host.run(["rm", filler])
ok(cluster.wait_in_sync(beta), "there is room again: the old primary is standby in sync by itself")
cluster.finish()
done()
