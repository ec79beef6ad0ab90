#!/usr/bin/env python3
"""DR: the standby at the other site is away, and several times as much WAL is written as the primary's
file system can hold. With the limits of doc/wan.md the disk is never full: the primary warns in time,
gives the standby up, and goes on. When the path is back the standby is seeded again, and has everything."""

import threading

from netbed import *
from cluster import *

SIZE_MB = 400
# Half of it for what PostgreSQL keeps itself and for the far standby; the other half for the data and
# for what is written until the limit is noticed and a checkpoint has removed WAL.
SETTINGS_ALPHA = """
max_wal_size = 64MB
min_wal_size = 32MB
tandem.async_links = 'alpha,beta'
tandem.link_options = 'alpha: max_backlog=96MB; beta: max_backlog=96MB'
"""
ROUNDS = 150
# One round: some 9 MB of WAL, pages of a table among them, committed.
ROUND = """
DO $$ BEGIN
	FOR i IN 1 .. {rounds} LOOP
		UPDATE filling SET n = n + 1;
		PERFORM pg_logical_emit_message(true, 'net', repeat('x', 1024 * 1024)) FROM generate_series(1, 8);
		COMMIT;
	END LOOP;
END $$"""

bed = Bed(enter())
cluster = Cluster(bed, SHORT + "profile = dr\n", settings=SETTINGS_ALPHA)
alpha, beta = cluster.alpha, cluster.beta

os.mkdir(alpha.data, 0o700)
run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "tmpfs", alpha.data])
run(["chown", "postgres:", alpha.data])
alpha.host.off()
alpha.host.boot()

FAR = "SELECT {} FROM tandem.links WHERE name = 'beta'"
EVENT = "SELECT count(*) > 0 FROM tandem.events WHERE (kind, name) = ('link', 'beta') AND message LIKE '{}'"


def streams():
    return alpha.ask(FAR.format("state = 'streaming'")) == "t"


class Disk(threading.Thread):
    """Looks how full the file system is, until told to end."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.most = 0
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(0.01):
            f = os.statvfs(self.path)
            self.most = max(self.most, (f.f_blocks - f.f_bfree) * f.f_frsize >> 20)

    def end(self):
        self.stop.set()
        self.join()
        return self.most


def written(since):
    return int(alpha.psql(f"SELECT (pg_current_wal_insert_lsn() - '{since}') / 1048576").split(".")[0])


cluster.make()
beta.ctl("seed", "--timeout", "120", timeout=130)
ok(cluster.wait(streams, "beta streams"), f"alpha, on a file system of {SIZE_MB} MB, and beta, which is far away")
alpha.psql("CREATE TABLE filling WITH (fillfactor = 50) AS SELECT 0 AS n, repeat('x', 200) AS t FROM generate_series(1, 8000)")
cluster.write(rate=50, timeout=5000)
ok(cluster.load.wait_for(20), "clients write")
postmaster = alpha.postmaster()

disk = Disk(alpha.data)
disk.start()
begin = alpha.psql("SELECT pg_current_wal_insert_lsn()")
bed.cut(alpha.host, beta.host)
ok(alpha.wait(FAR.format("state = 'down'")), "the path to the far standby is cut")
started = now()
alpha.psql(ROUND.format(rounds=6))
ok(alpha.wait(EVENT.format("50 \\% of the WAL that may be kept for it is used: % MB of 96 MB; the limit is reached in %")),
   "half of what may be kept for it is used: the primary says in what time the limit is reached")
alpha.psql(ROUND.format(rounds=ROUNDS), timeout=PATIENCE)
took = now() - started
amount = written(begin)
most = disk.end()
said = alpha.psql("SELECT message FROM tandem.events WHERE kind = 'link' ORDER BY id").split("\n")
say("\n".join(said))
say(f"{amount} MB of WAL in {took:.1f} s")
ok(amount > 3 * SIZE_MB, f"{amount} MB of WAL are written, {amount / SIZE_MB:.1f} times what the file system holds")
ok(most < SIZE_MB - 100, f"at most {most} MB of {SIZE_MB} MB were used")
given_up = [n for n, line in enumerate(said) if line.startswith("needs resync")]
ok(len(given_up) == 1 and said[given_up[0] - 1].startswith("90 %"), "warned again at 90 %, then it was given up")
ok(alpha.wait(FAR.format("state = 'needs resync'")), "the view says that it needs a resync")
ok(cluster.writes(20) and alpha.postmaster() == postmaster, "the primary goes on, and the clients write")

# The way back that doc/wan.md tells.
bed.restore()
ok(cluster.wait(streams, "beta streams"), "the path is there again: it streams")
ok("has already been removed" in beta.events() and beta.events().count("seeded from") == 2,
   "after the WAL it needed was gone, and it was seeded again, by tandemd")
ok(alpha.wait("SELECT wal_status <> 'lost' FROM pg_replication_slots WHERE slot_name = 'beta'"),
   "and WAL is kept for it again")
cluster.finish()
ok(len({node.psql("SELECT md5(string_agg(f::text, ',' ORDER BY ctid)) FROM filling f") for node in cluster.nodes}) == 1,
   "both hold the same")
done()
