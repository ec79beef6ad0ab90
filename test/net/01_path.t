#!/usr/bin/env python3
"""The replication path between two servers, without tandemd: cut in each way there is, restored.

What the database does alone is then up to the operator, and that is the test.
"""

from netbed import *
from pair import *

bed = Bed(enter())
settings = "tandem.link_timeout = 1s\ntandem.reconnect_interval = 200ms\nwal_receiver_timeout = 3s\n"
alpha = Node(bed, "alpha", 1, settings)
beta = Node(bed, "beta", 2, settings)
client = bed.host("client", 10, ["front"])

alpha.initdb()
alpha.pg_ctl("start")
beta.basebackup(alpha)
beta.pg_ctl("start")
alpha.psql("CREATE EXTENSION pg_tandem")
ok(alpha.wait_state("in sync"), "the two are in sync")
make_table(alpha)
load = Load(client, alpha.host.address(), rate=200)
ok(load.wait_for(100), "a client writes")

cuts = {
    "the cable is pulled out": lambda: beta.host.unplug("back"),
    "packets are dropped in both directions": lambda: bed.cut(alpha.host, beta.host, "back"),
    "packets to the standby are dropped": lambda: bed.drop(alpha.host, beta.host, "back"),
    "packets to the primary are dropped": lambda: bed.drop(beta.host, alpha.host, "back"),
    "the standby's firewall rejects": lambda: bed.reject(alpha.host, beta.host),
    "the primary's firewall rejects": lambda: bed.reject(beta.host, alpha.host),
}
for name, cut in cuts.items():
    begin = time.monotonic()
    cut()
    ok(alpha.wait_state("stalled"), f"{name}: noticed")
    say(f"after {time.monotonic() - begin:.1f} s")
    ok(poll(lambda: alpha.held() == 2, 10), f"{name}: commits are held")
    alpha.psql("SELECT tandem.set_alone('test')")
    ok(load.wait_for(20) and alpha.wait_state("alone"), f"{name}: alone, it goes on")
    bed.restore()
    beta.host.plug()
    begin = time.monotonic()
    ok(alpha.wait("SELECT state = 'streaming' FROM tandem.links WHERE name = 'beta'"),
       f"{name}: the link comes back by itself")
    say(f"after {time.monotonic() - begin:.1f} s")
    alpha.psql("SELECT tandem.set_in_sync()")
    ok(alpha.wait_state("in sync"), f"{name}: in sync again")
    ok(load.wait_for(20), f"{name}: the client writes")

load.stop()
lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")
ok(load.check(alpha, beta), "every acknowledged commit is on both")
done()
