#!/usr/bin/env python3
"""A node with another key is nobody: the others do not hear it, it does not hear them, and neither
takes harm. With the right key it is one of them again."""

from netbed import *
from cluster import *

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta, gamma = cluster.alpha, cluster.beta, cluster.gamma
cluster.begin()



def with_another_key(name):
    """A configuration that differs in its key only."""
    other = os.path.join(bed.work, name)
    with open(other + ".key", "w", encoding="ascii") as f:
        f.write(os.urandom(32).hex() + "\n")
    os.chmod(other + ".key", 0o600)
    with open(other + ".conf", "w", encoding="utf-8") as f:
        f.write(read(cluster.conf).replace(cluster.key, other + ".key"))
    return other + ".conf"


def restart(member, conf):
    member.daemon.end()
    member.daemon = member.host.start([TANDEMD, "-c", conf, "-n", member.name], "tandemd.log")


def heard(member, name):
    nodes = {n["name"]: n for n in member.status().get("nodes", [])}
    return nodes.get(name, {}).get("heard")


ok(cluster.wait(lambda: heard(alpha, "gamma") is True, "gamma is heard"), "alpha hears the witness")
begin = now()
restart(gamma, with_another_key("gamma"))
ok(cluster.wait(lambda: heard(alpha, "gamma") is False and heard(beta, "gamma") is False, "not heard"),
   "the witness has another key: neither node hears it")
ok("not signed with the key" in alpha.events(), "and alpha says why")
ok(cluster.writes() and alpha.state() == "in sync", "the pair goes on")
cluster.gap(begin, 1.0, "the witness has another key")

# Without a voter that both hear beta has no majority: it must not take over.
restart(beta, with_another_key("beta"))
ok(cluster.wait(lambda: heard(alpha, "beta") is False, "not heard"), "beta has another key, too: alpha does not hear it")
ok(cluster.wait(lambda: alpha.ask("SELECT pg_is_in_recovery()") == "t", "alpha is no primary"),
   "alpha is without a majority: its PostgreSQL is stopped when its lease ends, and is a standby")
ok(stays(lambda: not beta.is_primary(), 4), "beta does not take over")
restart(beta, cluster.conf)
ok(cluster.wait(lambda: alpha.state() == "in sync" or beta.state() == "in sync", "in sync"),
   "beta has the right key again: the pair is in sync")
primary = alpha if alpha.state() == "in sync" else beta
cluster.became_primary(primary)
ok(cluster.writes(), "the clients write")

restart(gamma, cluster.conf)
ok(cluster.wait(lambda: heard(primary, "gamma") is True, "gamma is heard"), "the witness has the right key again: it is heard")
begin = now()
standby = cluster.other(primary)
primary.crash()
ok(cluster.wait_primary(standby) and cluster.writes(), "and it votes: the primary's host dies, the standby takes over")
cluster.gap(begin, 3 + 2.5, "the primary's host dies")
primary.boot()
ok(cluster.wait_in_sync(standby), "in sync again by itself")
cluster.finish()
done()
