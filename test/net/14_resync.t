#!/usr/bin/env python3
"""HA: the time until a standby that was away is in sync again, with much WAL written meanwhile.
(How fast the stream is is measured by bench/catchup; here the whole of it is seen, under load.)"""

from netbed import *
from cluster import *

MEGABYTES = 300

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta = cluster.alpha, cluster.beta
cluster.begin(rate=20)

beta.host.unplug()
ok(cluster.wait_alone(alpha), "the standby is away, the primary alone")
before = alpha.psql("SELECT pg_current_wal_flush_lsn()")
alpha.psql(f"SELECT count(pg_logical_emit_message(false, 'net', repeat('x', 1024 * 1024))) "
           f"FROM generate_series(1, {MEGABYTES})", timeout=PATIENCE)
written = int(alpha.psql(f"SELECT pg_current_wal_insert_lsn() - '{before}'::pg_lsn").split(".")[0])
ok(written > MEGABYTES * 1000000, f"{written / 1e6:.0f} MB of WAL are written meanwhile")
beta.host.plug()
begin = now()
ok(cluster.wait_in_sync(alpha), "it is back, and in sync by itself")
took = now() - begin
say(f"in sync {took:.1f} s after the network was back: {written / 1e6 / took:.0f} MB/s")
ok(cluster.writes(20), "the client writes")
# While it caught up commits did not wait for it.
cluster.gap(begin, 1.5, "catching up under load")
cluster.finish()
done()
