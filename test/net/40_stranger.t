#!/usr/bin/env python3
"""The virtual address is in use by a stranger: the primary does not take it, says so, and is
primary nevertheless. It takes it as soon as the stranger is gone, and keeps it when one comes."""

from netbed import *
from cluster import *

bed = Bed(enter())
stranger = bed.host("stranger", 20, ["front"])


def take(argument):
    """The stranger takes the addresses, as somebody does who knows no better, or gives them up."""
    for family, length in ((4, 24), (6, 64)):
        stranger.run(["ip", "address", argument, f"{VIP[family]}/{length}", "dev", "front"]
                     + (["nodad"] if family == 6 and argument == "add" else []))


def owner(family):
    """The hardware address that the client finds the virtual address at, asked anew."""
    cluster.client.run(["ip", "neigh", "flush", "dev", "front"])
    cluster.client.run(["ping", "-q", "-c", "1", "-W", "1", VIP[family]], check=False)
    return cluster.client.run(["ip", "neigh", "show", VIP[family], "dev", "front"]).stdout


def hardware(host):
    return host.run(["cat", "/sys/class/net/front/address"]).stdout.strip()


take("add")
cluster = Cluster(bed)
alpha = cluster.alpha
cluster.make()
ok(cluster.wait(lambda: "in use by another host" in alpha.events(), "it is told"),
   "the virtual addresses are in use by a stranger: alpha is primary and says so")
states = {v.get("address"): v.get("state") for v in alpha.status().get("vip", [])}
ok(len(states) == 2 and set(states.values()) <= {"taken", "probing"}, f"and so does its status: {states}")
ok(cluster.seed(), "beta is seeded and in sync: the pair works without its address")
ok(stays(lambda: not alpha.has_vip() and not alpha.has_vip(6), 2), "alpha does not take the addresses")
ok(hardware(stranger) in owner(4) and hardware(stranger) in owner(6), "the stranger is not disturbed")
number = alpha.events().count("in use by another host")
ok(stays(lambda: alpha.events().count("in use by another host") == number, 2), "it is not told at every try")

begin = now()
take("del")
ok(poll(lambda: alpha.has_vip() and alpha.has_vip(6), 5), "the stranger is gone: alpha takes them")
say(f"after {now() - begin:.1f} s")
cluster.write()
ok(cluster.writes(), "clients write through the virtual address")

# One that comes later: what it sends from there is heard by all.
take("add")
stranger.run(["ip", "neigh", "flush", "dev", "front"])
stranger.run(["ping", "-q", "-c", "1", "-W", "1", "-I", VIP[4], cluster.client.address()], check=False)
ok(cluster.wait(lambda: "is claimed by another host" in alpha.events(), "the claim is told", 10),
   "a stranger claims the address that alpha has: it is told")
ok(alpha.has_vip() and alpha.has_vip(6), "alpha keeps both")
take("del")
ok(cluster.writes(), "clients write through the virtual address")
cluster.finish()
done()
