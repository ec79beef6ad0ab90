#!/usr/bin/env python3
"""DR without a majority: alpha and the witness here, beta at another site. When this site is lost no
majority can be had. With confirm_without_majority = refuse beta does not take over by itself; with
proceed it does, and says loudly what that means: after a mere cut of the path there are two primaries.
And max_loss_time forbids it where the standby has lacked something for too long."""

from netbed import *
from cluster import *

DR = SHORT + """profile = dr
confirm_timeout = 2s
confirm_default = failover
max_loss_time = 3s
"""

bed = Bed(enter())
cluster = Cluster(bed, DR, settings="tandem.async_links = 'alpha,beta'\n")
alpha, beta, gamma = cluster.members


def streams(node, primary):
    return primary.ask(f"SELECT count(*) FROM tandem.links WHERE name = '{node.name}' AND state = 'streaming'") == "1"


def confirm():
    return beta.status().get("confirm") or {}


def shown():
    return beta.ctl("status", check=False).stdout


def has_everything():
    """beta, of what alpha has now."""
    lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
    return (cluster.wait(lambda: streams(beta, alpha), "beta streams")
            and beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"))


def settings(old, new):
    """Changes the configuration of all; beta's tandemd reads it."""
    text = read(cluster.conf)
    with open(cluster.conf, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    beta.daemon.end()
    beta.start()
    return cluster.wait(lambda: beta.state() == "standby" and beta.status()["primary"] == "alpha", "beta is standby")


cluster.make()
beta.ctl("seed", "--timeout", "120", timeout=130)
ok(has_everything(), "alpha is primary, beta streams from it")
cluster.write(timeout=2000)
ok(cluster.writes(), "clients write through the virtual address")

# Too long without something, though it is little: the path of the link alone is cut.
bed.cut(alpha.host, beta.host, "back")
ok(cluster.writes(400), "the path of the link is cut: the client writes, a few kB")
ok(poll(lambda: alpha.ask("SELECT exposure > '4 s' FROM tandem.links WHERE name = 'beta'") == "t", 15),
   "for more than max_loss_time")
alpha.crash()
ok(poll(lambda: confirm().get("veto") == "more than max_loss would be lost", 30),
   "alpha's host dies: so much time must not be lost without an operator")
ok("(more than max_loss would be lost)" in shown(), "the status shows it")
ok(stays(lambda: beta.state() == "standby", 4), "beta does not take over, though with the witness it has a majority")
bed.restore()
alpha.boot()
ok(cluster.wait_primary(alpha) and has_everything(), "alpha is back, and primary")

# The site is lost: refuse.
alpha.crash()
gamma.crash()
ok(poll(lambda: confirm().get("majority") is False and confirm().get("left_s") == 0, 30),
   "alpha and the witness are lost: the time for a confirmation is over")
ok(stays(lambda: beta.state() in ("standby", "pre-vote"), 3), "refuse: beta does not take over")
text = shown()
ok("a majority of voters (confirm_without_majority = refuse)" in text, "the status tells what it waits for")
ok("that node alpha has written since it fell silent" in text, "and what would be lost")
alpha.boot()
gamma.boot()
ok(cluster.wait_primary(alpha) and has_everything() and cluster.writes(), "both are back: alpha is primary")

# The path between the sites is cut: proceed.
ok(settings("profile = dr\n", "profile = dr\nconfirm_without_majority = proceed\n"), "now with proceed")
ok(has_everything(), "and with everything until now")
begin = now()
bed.cut(alpha.host, beta.host)
bed.cut(gamma.host, beta.host)
text = poll(lambda: (lambda t: t if "WITHOUT A MAJORITY" in t else None)(shown()), 30) or ""
ok("if the primary lives there are two then" in text, "the path between the sites is cut: the countdown is a warning")
ok(cluster.wait(lambda: beta.state() == "alone", "beta takes over"), "proceed: beta takes over without a majority")
ok("failing over without a majority: if the primary lives there are two now" in read(beta.host.disk + "/tandemd.log"),
   "the log says so loudly")
text = shown()
ok("WARNING            without a majority of voters: alpha, gamma taken to be off" in text, "and the status, as long as it is so")
say(text)
ok(alpha.state() == "alone" and cluster.writes(), "alpha goes on: there are two primaries")
cluster.gap(begin, 1, "at alpha's site the path cut is not noticed")

term = beta.status().get("record", {}).get("term", 0)
ok(term > alpha.status().get("record", {}).get("term", 0), "beta's term is the higher one")

# The path is back.  The majority is at alpha's site: it has promised higher terms meanwhile, so whether
# beta goes on or alpha comes back is decided by an election.  One of them follows, and keeps what it alone has.
bed.restore()
ok(cluster.wait(lambda: streams(alpha, beta) or streams(beta, alpha), "one follows the other"),
   "the path is back: one follows the other, one primary")
ok("WARNING" not in shown(), "the warning is gone")
winner, loser = (beta, alpha) if streams(alpha, beta) else (alpha, beta)
ok(winner.status().get("record", {}).get("term", 0) >= term, "not in a lower term than the one that was highest")
ok(cluster.writes(), "and commits go on")
ok(f"which \"{winner.name}\" does not have, is kept in" in loser.events(), "what only the other one had is kept aside")
done()
