#!/usr/bin/env python3
"""An old primary comes back by itself, by what is cheapest: a plain restart where it lost nothing, a
rewind where it had written what the new primary does not have, a new seed where the WAL it needs is
gone. The WAL that is discarded is kept, and named in the log."""

import glob

from netbed import *
from cluster import *
from pair import BIN

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta = cluster.alpha, cluster.beta
cluster.begin()


def lines(node, *words):
    """Lines of its log with all of these words."""
    log = read(os.path.join(node.host.disk, "tandemd.log")).split("\n")
    return [line for line in log if all(w in line for w in words)]


def rebuilt(node):
    return len(lines(node, "rewound to")), len(lines(node, "seeded from"))


first = rebuilt(alpha), rebuilt(beta)

# A plain restart.
ok(alpha.ctl("switchover", check=False).returncode == 0 and cluster.wait_primary(beta), "switchover to beta")
ok(cluster.wait_in_sync(beta), "switchover: the old primary is standby in sync by itself")
ok(cluster.direct["beta"].wait_for(5), "beta's own client writes")
ok(beta.ctl("switchover", check=False).returncode == 0 and cluster.wait_primary(alpha), "switchover to alpha")
ok(cluster.wait_in_sync(alpha), "switchover back: in sync again")
ok(cluster.direct["alpha"].wait_for(5), "alpha's own client writes")
ok((rebuilt(alpha), rebuilt(beta)) == first, "handed over: a plain restart was enough, both times")

# A rewind: cut off, it writes what nobody else has, until its lease has ended.
alpha.psql("CREATE TABLE lost (x text)")
ok(beta.wait("SELECT count(*) = 1 FROM pg_class WHERE relname = 'lost'"), "both have the table")
alpha.host.unplug()
written = 0
while alpha.ask("INSERT INTO lost SELECT 'nobody else has this' FROM generate_series(1, 1000)") is not None:
    written += 1
ok(written > 0, f"cut off: what was written there without waiting for a standby, {written} times, nobody else has")
ok(cluster.wait_primary(beta) and cluster.writes(), "the standby takes over, the client writes")
alpha.host.plug()
ok(cluster.wait_in_sync(beta), "connected again: the old primary is standby in sync by itself")
ok(rebuilt(alpha) == (first[0][0] + 1, first[0][1]), "by a rewind")
ok(alpha.ask("SELECT count(*) FROM lost") == "0" and beta.ask("SELECT count(*) FROM lost") == "0",
   "what only it had is gone from the database")
kept = lines(alpha, "which \"beta\" does not have, is kept in")
say("\n".join(kept))
directory = kept[-1].split('is kept in "')[1].split('"')[0] if kept else "none"
names = sorted(os.path.basename(name) for name in glob.glob(directory + "/0*"))
ok(len(names) > 0 and os.path.exists(directory + "/README"), f"it is kept: {directory}: {len(names)} segments")
dump = "".join(alpha.host.run([BIN + "pg_waldump", "-p", directory, name], check=False).stdout for name in names)
oid = beta.ask("SELECT relfilenode FROM pg_class WHERE relname = 'lost'")
ok(f"/{oid}" in dump and "INSERT" in dump, "and pg_waldump shows the lost rows in it")
ok(cluster.writes(), "the client writes")

# A new seed: the standby is away until the WAL it needs is gone.
before = rebuilt(alpha)
alpha.crash()
ok(cluster.wait_alone(beta), "the standby's host dies: the primary goes on alone")
beta.psql("SELECT pg_drop_replication_slot('alpha')")
first_kept = beta.ask("SELECT pg_walfile_name(pg_current_wal_lsn())")
for _ in range(3):
    beta.psql("SELECT pg_switch_wal(); CHECKPOINT")
ok(poll(lambda: beta.ask(f"SELECT count(*) FROM pg_ls_waldir() WHERE name = '{first_kept}'") == "0"),
   "the WAL that it needs is removed")
alpha.boot()
ok(cluster.wait_in_sync(beta), "it boots: standby in sync by itself")
ok(rebuilt(alpha) == (before[0], before[1] + 1), "by a new seed")
ok(cluster.writes(), "the client writes")

# The data directory is lost. What there is to lose is gone, so nothing starts by itself.
before = rebuilt(alpha)
run(["rm", "-rf", alpha.data])
ok(poll(lambda: alpha.status().get("postgres", {}).get("state") == "broken", 20),
   "the standby's data directory is lost: it says so") or cluster.tell()
ok(cluster.wait_alone(beta), "the primary goes on alone")
said = beta.ctl("seed", "--timeout", "60", check=False)
say(said.stdout)
ok(said.returncode != 0, "a primary is not seeded")
said = alpha.ctl("seed", "--timeout", "120", check=False, timeout=130)
say(said.stdout)
ok(said.returncode == 0 and cluster.wait_in_sync(beta), "tandemctl seed: in sync")
ok(rebuilt(alpha) == (before[0], before[1] + 1), "by a new seed")
cluster.finish()
done()
