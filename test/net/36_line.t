#!/usr/bin/env python3
"""DR with two nodes and no witness, one at each end of a thin, slow and lossy line, and then of one
that is not so long. When it is cut a primary of two voters stops, and tandemctl check says so before;
with on_isolation = continue it never waits, and when the line is back the other site catches up over it."""

from netbed import *
from cluster import *

DR = SHORT + "peer_timeout = 1s\nprofile = dr\nconfirm_timeout = 3s\nconfirm_default = failover\n"
# tandemd knows the other node by the line alone; clients are at the primary's own network.
ENDS = {"alpha": "10.78.0.1", "beta": "10.78.0.2"}

bed = Bed(enter())
cluster = Cluster(bed, DR, settings="tandem.async_links = 'alpha,beta'\n", witness=False, vip=False)
alpha, beta = cluster.alpha, cluster.beta
for member in cluster.nodes:
    with open(os.path.join(member.etc, "pg_hba.conf"), "a", encoding="utf-8") as f:
        f.write("host all all 10.78.0.0/16 trust\nhost replication all 10.78.0.0/16 trust\n")


def link(what):
    return alpha.ask(f"SELECT {what} FROM tandem.links WHERE name = 'beta' AND state = 'streaming'")


def has_everything():
    lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
    return (cluster.wait(lambda: link("true") == "t", "beta streams")
            and beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"))


cluster.make()
beta.ctl("seed", "--timeout", "120", timeout=130)
ok(has_everything(), "alpha is primary, beta streams from it")
cluster.load = Load(cluster.client, alpha.host.address(), rate=100, timeout=500)
ok(cluster.writes(), "clients write")

# on_isolation = stall, the default.
warning = "a primary that does not hear the other site stops"
ok(warning in alpha.ctl("check", check=False).stdout and warning in read(alpha.host.disk + "/tandemd.log"),
   "tandemctl check warns of what comes now, and so does tandemd's log")
bed.cut(alpha.host, beta.host)
ok(poll(lambda: alpha.ask("SELECT 1") is None, 20), "the path is cut: the primary of two voters stops")
bed.restore()
ok(cluster.wait_primary(alpha) and cluster.writes(), "restored: it is primary again by itself")

# The same, but for on_isolation = continue, and by way of the line.
text = read(cluster.conf).replace("profile = dr\n", "profile = dr\non_isolation = continue\n")
for member in cluster.nodes:
    member.daemon.end()
    text = text.replace(", ".join(member.host.address(n) for n in member.host.networks), ENDS[member.name])
    text = text.replace(f"host={member.host.address('back')}", f"host={ENDS[member.name]}")
with open(cluster.conf, "w", encoding="utf-8") as f:
    f.write(text)
line = Wan(alpha.host, beta.host, rate="100Mbit", delay="15ms", jitter="3ms", loss="0.1%")
ok(line.said.startswith("ready"), f"there is a line, 100 Mbit/s, 15±3 ms, 0.1 % ({line.said})")
for member in cluster.nodes:
    member.start()
ok(warning not in alpha.ctl("check", check=False).stdout, "on_isolation = continue: no warning")
bed.cut(alpha.host, beta.host)
ok(cluster.wait(lambda: (link("address") or "").startswith(ENDS["beta"]), "by the line"), "beta streams by the line alone")
ok(has_everything() and cluster.writes(), "it has everything, and the clients write")

begin = now()
line.command("cut")
ok(cluster.writes(400, 20), "the line is cut for longer than a lease: the client writes")
ok(alpha.state() == "alone" and beta.state() in ("standby", "pre-vote"), "alpha is primary, beta has not taken over")
ok(beta.status()["confirm"]["majority"] is False, "after confirm_timeout, it waits for a majority or an operator")
alpha.psql("SELECT pg_logical_emit_message(true, 'net', string_agg(md5(g::text), '')) FROM generate_series(1, 200000) g")
line.command("restore")
back = now()
ok(has_everything(), "restored: beta catches up over the line")
say(f"6 MB and more after {now() - back:.1f} s; {line.command('stats')}")
ok(cluster.writes(), "the client writes")
cluster.gap(begin, 0.5, "line cut and restored: the primary never waits")

# The other line of bench/wan, to a site that is near.
line.end(lambda process: process.stdin.close())
line = Wan(alpha.host, beta.host, rate="100Mbit", delay="1ms", loss="0.01%")
ok(line.said.startswith("ready"), f"there is another line, 100 Mbit/s, 1 ms, 0.01 % ({line.said})")
ok(has_everything() and cluster.writes(), "beta has everything, and the clients write")
begin = now()
line.command("cut")
ok(cluster.wait(lambda: not link("true"), "the link is lost") and cluster.writes(), "it is cut: the client writes")
line.command("restore")
back = now()
ok(has_everything() and cluster.writes(), "restored: beta catches up, and the client writes")
say(f"after {now() - back:.1f} s; {line.command('stats')}")
cluster.gap(begin, 0.5, "the near line cut and restored: the primary never waits")
ok(cluster.load.stop() and has_everything() and cluster.load.check(alpha, beta), "nothing that was acknowledged is lost")
line.end(lambda process: process.stdin.close())
done()
