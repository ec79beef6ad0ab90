#!/usr/bin/env python3
"""A seed or a rewind is cut: tandemd is killed in the middle of it, and the host dies. Each time the
node goes on by itself, and does not become primary or standby with half a copy."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta = cluster.alpha, cluster.beta
cluster.begin()


def lines(node, *words):
    log = read(os.path.join(node.host.disk, "tandemd.log")).split("\n")
    return [line for line in log if all(w in line for w in words)]


# Big enough that a seed takes some moments.
alpha.psql("CREATE TABLE big AS SELECT repeat(md5(i::text), 20) AS x FROM generate_series(1, 300000) i")
ok(cluster.wait_in_sync(alpha, 60), "some data is written")


def busy():
    return (beta.status().get("postgres") or {}).get("busy")


def seed():
    """Begin one, without waiting for its end."""
    return beta.host.start([TANDEMCTL, "-c", cluster.conf, "-n", "beta", "seed", "--even-in-sync",
                            "--timeout", "120"], "ctl.log")


seed()
ok(poll(busy, 30), "a seed is under way")
say(str(busy()))
number = len(lines(beta, "seeded from"))
for _ in range(3):
    poll(busy, 30)
    beta.daemon.end(signal.SIGKILL)
    beta.start()
    ok(poll(lambda: beta.status().get("state"), 10), "tandemd is killed in the middle of a seed, and started again")
ok(cluster.wait(lambda: len(lines(beta, "seeded from")) == number + 1, "beta is seeded", 60),
   "it goes on by itself")
ok(cluster.wait_in_sync(alpha, 60), "in sync")
ok(len(lines(beta, "seeded from")) == number + 1, "by one seed that was completed")
ok(cluster.writes(), "the client writes")

seed()
ok(poll(busy, 30), "a seed is under way")
beta.crash()
ok(cluster.wait_alone(alpha), "the host dies in the middle of it")
beta.boot()
ok(cluster.wait_in_sync(alpha, 60), "it boots: in sync by itself")
ok(cluster.writes(), "the client writes")

# The only whole copy is the primary's: while the other is being made nothing can fail over to it.
seed()
ok(poll(busy, 30), "a seed is under way")
alpha.signal(signal.SIGKILL)
ok(cluster.writes(), "the primary's PostgreSQL dies meanwhile: it is restarted where it is")
ok(alpha.status().get("primary") == "alpha", "nothing fails over to half a copy")
ok(cluster.wait_in_sync(alpha, 60), "and it ends well: in sync")
ok(poll(lambda: not os.path.exists(beta.data + "/tandem_old") and not os.path.exists(beta.data + "/tandem_seed")),
   "nothing of the earlier copies is left")

# The same for a rewind: beta is the primary, alpha comes back with what it alone has.
alpha.psql("CREATE TABLE lost (x text)")
alpha.host.unplug()
while alpha.ask("INSERT INTO lost SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) i") is not None:
    pass
ok(cluster.wait_primary(beta) and cluster.writes(), "the standby takes over, the client writes")
alpha.host.plug()
cut = 0
for _ in range(5):
    if not poll(lambda: alpha.state() == "rebuild" or beta.state() == "in sync", 30, 0.005) or beta.state() == "in sync":
        break
    cut += 1
    alpha.daemon.end(signal.SIGKILL)
    alpha.start()
ok(cut > 0, f"tandemd is killed in the middle of a rewind, {cut} times")
ok(cluster.wait_in_sync(beta, 60), "it goes on by itself: in sync")
ok(len(lines(alpha, "is kept in")) > 0, "what was discarded is kept")
cluster.finish()
done()
