#!/usr/bin/env python3
"""DR: A and B are a pair, C is at another site. C follows whoever is primary and holds no commit;
it takes over as planned, without a loss, and when both others are gone, after a confirmation."""

from netbed import *
from cluster import *

REMOTE = SHORT + "confirm_timeout = 3s\n"


class Sites(Cluster):
    """The cluster, and charlie at another site, which does not vote."""

    def write_conf(self, failover, sections, vip, of_node):
        if not hasattr(self, "charlie"):
            self.charlie = Member(self, "charlie", 4, self.settings + "tandem.async_links = 'alpha,beta'\n")
            self.nodes.append(self.charlie)
            self.members.append(self.charlie)
        super().write_conf(failover, sections, vip, of_node)
        with open(self.conf, encoding="utf-8") as f:
            text = f.read()
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(text.replace("[node charlie]\n", "[node charlie]\nsite = remote\n"))

    def __init__(self, bed, failover, settings=""):
        self.settings = SETTINGS + "tandem.tls = off\n" + settings
        super().__init__(bed, failover, settings + "tandem.async_links = 'charlie'\n")


def follows(node, primary):
    """Does it stream from that primary, as its extension says?"""
    return (node.status().get("postgres", {}).get("link_up") is True
            and primary.ask(f"SELECT count(*) FROM tandem.links WHERE name = '{node.name}' AND state = 'streaming'")
            == "1")


bed = Bed(enter())
cluster = Sites(bed, REMOTE)
alpha, beta, charlie = cluster.nodes
charlie.ctl("init")
cluster.begin()
said = charlie.ctl("seed", "--timeout", "120", timeout=130, check=False)
ok(said.returncode == 0 and cluster.wait(lambda: follows(charlie, alpha), "charlie streams from alpha"),
   "charlie is seeded and streams from alpha")
ok(alpha.state() == "in sync" and alpha.status()["record"]["standby"] == "beta",
   "beta is in sync, charlie is in no record")

begin = now()
bed.cut(alpha.host, charlie.host)
bed.cut(beta.host, charlie.host)
ok(cluster.writes(100), "the path to the other site is cut: the client writes")
cluster.gap(begin, 0.5, "the path to the other site is cut")
bed.restore()
ok(cluster.wait(lambda: follows(charlie, alpha), "charlie streams again"), "restored: charlie streams again")

begin = now()
alpha.crash()
ok(cluster.wait_primary(beta) and cluster.writes(), "alpha's host dies: beta takes over")
cluster.gap(begin, 5.5, "alpha's host dies")
ok(cluster.wait(lambda: follows(charlie, beta), "charlie streams from beta"), "charlie follows beta by itself")
ok(charlie.status()["confirm"] is None or charlie.state() == "standby", "charlie did not want to take over")
alpha.boot()
ok(cluster.wait_in_sync(beta), "alpha is back, in sync")

said = beta.ctl("switchover", "--to=charlie", check=False)
say(said.stdout)
ok(said.returncode == 0 and cluster.wait_primary(charlie), "planned: charlie takes over")
ok(cluster.writes(), "the client writes to the other site")
ok(cluster.wait_alone(charlie), "and waits for nobody")
ok(cluster.wait(lambda: follows(alpha, charlie) and follows(beta, charlie), "alpha and beta follow charlie"),
   "alpha and beta follow charlie")
said = charlie.ctl("switchover", "--to=alpha", check=False)
say(said.stdout)
ok(said.returncode == 0 and cluster.wait_primary(alpha) and cluster.wait_in_sync(alpha), "and back: alpha, in sync")
ok(alpha.status()["record"]["standby"] == "beta", "with beta")
ok(cluster.wait(lambda: follows(charlie, alpha), "charlie follows alpha"), "charlie follows alpha")
ok(cluster.writes(), "the client writes")

# Both are lost at once: the other site waits to be told.
lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
ok(charlie.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "charlie has everything until now")
alpha.crash()
beta.crash()
ok(poll(lambda: charlie.status().get("confirm"), 30), "alpha and beta are lost: charlie asks for a confirmation")
say(charlie.ctl("status").stdout)
ok(stays(lambda: charlie.state() == "standby", 5), "it does not take over by itself (confirm_default = wait)")
said = charlie.ctl("confirm", "failover", check=False)
say(said.stdout)
ok(said.returncode != 0, "nor without a majority of voters")
said = charlie.ctl("confirm", "failover", "--force-quorum=alpha,beta", "--yes", check=False)
say(said.stdout)
ok(said.returncode == 0 and cluster.wait_primary(charlie), "an operator says that both are off: it takes over")
ok(charlie.status()["record"]["lossy"] is True, "the record tells that commits may be lost")
done()
