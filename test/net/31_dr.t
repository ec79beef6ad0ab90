#!/usr/bin/env python3
"""DR, profile dr: alpha here, beta at another site, gamma a witness. No commit waits for beta. The
postmaster is restarted where it is, and nothing else happens to it without an operator; when the
host is lost beta takes over after the time for a confirmation, unless too much would be lost."""

from netbed import *
from cluster import *

DR = SHORT + """profile = dr
confirm_timeout = 4s
confirm_default = failover
max_loss = 1MB
restart_attempts = 1
"""

bed = Bed(enter())
cluster = Cluster(bed, DR, settings="tandem.async_links = 'alpha,beta'\n")
alpha, beta = cluster.alpha, cluster.beta


def streams(node, primary):
    return primary.ask(f"SELECT count(*) FROM tandem.links WHERE name = '{node.name}' AND state = 'streaming'") == "1"


cluster.make()
beta.ctl("seed", "--timeout", "120", timeout=130)
ok(cluster.wait(lambda: streams(beta, alpha), "beta streams") and alpha.state() == "alone",
   "alpha is primary, beta streams from it and is in no record")
cluster.write()
ok(cluster.load.wait_for(50), "clients write through the virtual address")

begin = now()
bed.cut(alpha.host, beta.host)
ok(cluster.writes(200), "the path to the other site is cut: the client writes")
bed.restore()
ok(cluster.wait(lambda: streams(beta, alpha), "beta streams again"), "restored: beta streams again")
cluster.gap(begin, 0.5, "path cut and restored: the primary never waits")

for attempt in ("the postmaster is killed", "killed again, more often than restart_attempts"):
    begin = now()
    os.kill(alpha.postmaster(), signal.SIGKILL)
    ok(cluster.writes(), f"{attempt}: it is restarted where it is")
    cluster.gap(begin, 2.5, attempt)
ok(beta.state() == "standby" and cluster.wait(lambda: streams(beta, alpha), "beta streams"),
   "the other site does not take over")

# More is written than may be lost, while the other site cannot be reached by the link.
lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
ok(beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "beta has all")
bed.cut(alpha.host, beta.host, "back")
alpha.psql("CREATE TABLE big AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
ok(cluster.wait(lambda: (beta.status().get("loss", {}).get("bytes") or 0) > 1 << 20, "the loss is known"),
   "the path of the link is cut: status on beta tells how much would be lost")
alpha.crash()
ok(poll(lambda: beta.status().get("confirm"), 30), "alpha's host dies: an operator is asked")
say(beta.ctl("status").stdout)
ok(stays(lambda: beta.state() == "standby", 7), "max_loss: it does not take over by itself")
bed.restore()
alpha.boot()
ok(cluster.wait_primary(alpha), "alpha boots and is primary again")
ok(cluster.wait(lambda: streams(beta, alpha), "beta streams"), "beta catches up")
ok(cluster.writes(), "the client writes")

lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
ok(beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "beta has all until a moment ago")
begin = now()
alpha.crash()
said = poll(lambda: (lambda c: c if c.get("fails_over") else None)(beta.status().get("confirm") or {}), 30) or {}
ok(said.get("fails_over") is True and said.get("left_s") is not None, "alpha's host dies: the countdown is shown")
beta.ctl("confirm", "wait")
ok(stays(lambda: beta.state() == "standby", 6), "told to wait, it waits")
ok(beta.ctl("confirm", "failover", check=False).returncode == 0, "told to fail over")
ok(cluster.wait_primary(beta) and cluster.writes(), "it takes over")
ok(beta.status()["record"]["lossy"] is True, "the record says that commits may be lost")
alpha.boot()
ok(cluster.wait(lambda: streams(alpha, beta), "alpha follows"), "alpha boots: it follows beta by itself")
begin = now()
beta.crash()
ok(cluster.wait_primary(alpha), "beta's host dies: alpha takes over by itself after confirm_timeout")
ok(now() - begin < 4 + 3 + 4, f"after {now() - begin:.1f} s")
beta.boot()
ok(cluster.wait(lambda: streams(beta, alpha), "beta follows"), "beta boots: it follows alpha by itself")

# PostgreSQL does not start any more: local restarts, then the operator decides.
ok(cluster.writes(), "the client writes")
lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
ok(beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "beta has all until a moment ago")
conf = os.path.join(alpha.etc, "postgresql.conf")
whole = read(conf)
with open(conf, "a", encoding="utf-8") as f:
    f.write("shared_preload_libraries = 'there_is_no_such_library'\n")
begin = now()
os.kill(alpha.postmaster(), signal.SIGKILL)
ok(poll(lambda: "still trying" in alpha.events(), 30),
   "the postmaster is killed and does not start any more, more often than restart_attempts: an alarm")
ok(stays(lambda: beta.state() == "standby" and not beta.status().get("confirm"), max(begin + 4 + 1 - now(), 1)),
   "for longer than confirm_timeout the other site does not take over, nor count down")
ok(alpha.state() == "restart", "alpha goes on trying")
ok(beta.ctl("confirm", "failover", check=False).returncode != 0, "there is nothing to confirm while tandemd runs there")
alpha.daemon.end()
ok(poll(lambda: beta.status().get("confirm"), 30), "an operator stops it there: beta asks for a confirmation")
ok(beta.ctl("confirm", "failover", check=False).returncode == 0, "and gets it")
ok(cluster.wait_primary(beta) and cluster.writes(), "confirmed: beta takes over, and the client writes")
with open(conf, "w", encoding="utf-8") as f:
    f.write(whole)
alpha.start()
ok(cluster.wait(lambda: streams(alpha, beta), "alpha follows"), "mended and started: alpha follows beta by itself")
done()
