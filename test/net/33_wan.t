#!/usr/bin/env python3
"""scripts/wan, the line that bench/wan measures over: it has the rate, delay and loss that it was
asked for, by each method that this kernel has, and nothing of it is left when it ends.

    test/net/33_wan.t [METHOD [RATE]]

RATE in Mbit/s. test/vm/08_wan runs it with netem, which not every kernel has."""

from netbed import *

A, B = "10.78.0.1", "10.78.0.2"

# Sends UDP packets with a number in them; the other side tells which ones came in order.
SEND = """
import socket, sys, time
count, pause = int(sys.argv[1]), float(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE: none is lost before the line
s.connect(("10.78.0.2", 7001))
for i in range(count):
    s.send(i.to_bytes(4, "big") + bytes(1000))
    if pause and i % 10 == 9:
        time.sleep(pause * 10)
"""
RECEIVE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
s.bind(("10.78.0.2", 7001))
print("there", flush=True)
got, last, ordered = 0, -1, True
s.settimeout(30)
try:
    while True:
        number = int.from_bytes(s.recv(2000)[:4], "big")
        s.settimeout(0.5)
        ordered, last, got = ordered and number > last, number, got + 1
except socket.timeout:
    print(got, ordered)
"""

# As much as there is room for, for 2.5 s; the first second does not count.
BULK = """
import socket, time
s = socket.create_connection(("10.78.0.2", 7000))
end = time.monotonic() + 2.5
while time.monotonic() < end:
    s.sendall(bytes(65536))
"""
SINK = """
import socket, time
listener = socket.create_server(("10.78.0.2", 7000))
print("there", flush=True)
s = listener.accept()[0]
begin = time.monotonic()
got, since, last = 0, None, None
while True:
    data = s.recv(1 << 20)
    if not data:
        break
    last = time.monotonic()
    if since is None and last - begin > 1:
        since = last
    elif since is not None:
        got += len(data)
print(got * 8 / (last - since))
"""


def ping(count, *options):
    """The times of the answers, ms."""
    said = alpha.run(["ping", "-n", "-i", "0.02", "-c", str(count), *options, B], check=False).stdout
    return [float(word[5:]) for word in said.split() if word.startswith("time=")]


def send(count, pause=0):
    """(packets that came, were they in order)"""
    log = f"receive.{time.monotonic()}"
    receiver = beta.start([sys.executable, "-c", RECEIVE], log)
    poll(lambda: "there" in read(os.path.join(beta.disk, log)))
    alpha.run([sys.executable, "-c", SEND, str(count), str(pause)])
    poll(receiver.ended)
    words = read(os.path.join(beta.disk, log)).split()
    return int(words[1]), words[2] == "True"


def bulk():
    """Bits a second that TCP gets through."""
    sink = beta.start([sys.executable, "-c", SINK], "sink.log")
    poll(lambda: "there" in read(os.path.join(beta.disk, "sink.log")))
    alpha.run([sys.executable, "-c", BULK])
    poll(sink.ended)
    rate = float(read(os.path.join(beta.disk, "sink.log")).split()[-1])
    os.unlink(os.path.join(beta.disk, "sink.log"))
    return rate


def gone():
    return all("wan0" not in host.run(["ip", "link"]).stdout for host in (alpha, beta))


def missing(stats):
    return stats[0].get("lost_or_dropped", stats[0].get("lost", 0) + stats[0].get("dropped", 0))


def check(method, full):
    line = Wan(alpha, beta, method, rate=f"{full}Mbit", delay="10ms", jitter="3ms")
    if not ok(line.said == f"ready {method}", f"{method}: there is a line ({line.said})"):
        line.end(subprocess.Popen.kill)
        return
    times = ping(30)
    mean = sum(times) / max(len(times), 1)
    ok(len(times) == 30 and min(times) > 13.9 and 18.5 < mean < 22.5,
       f"{method}: a round trip takes twice the delay, more or less ({mean:.1f} ms, from {min(times, default=0):.1f} ms)")
    ok(max(times, default=0) - min(times, default=0) > 4, f"{method}: and each one another time")
    rates = [bulk() / 1e6]
    while rates[-1] < 0.85 * full and len(rates) < 5:  # the computer, or the machine, was too busy
        rates.append(bulk() / 1e6)
    ok(0.85 * full < max(rates) < full, f"{method}: TCP fills {full} Mbit/s, with what its headers leave of it "
       f"({', '.join(f'{rate:.1f}' for rate in rates)})")
    line.command("cut")
    ok(ping(3, "-W", "0.2") == [], f"{method}: cut, nothing passes")
    line.command("restore")
    ok(len(ping(3)) == 3, f"{method}: restored, it does")
    line.end(lambda process: process.stdin.close())
    ok(gone(), f"{method}: it ends with its input, and its devices with it")

    line = Wan(alpha, beta, method, rate="100Mbit", delay="1ms", loss="2%")
    before = line.command("stats")
    got, ordered = send(5000, 0.0001)
    after = line.command("stats")
    lost = missing(after) - missing(before)
    ok(got + lost == 5000 and 50 < lost < 160, f"{method}: of 5000 packets some 2 % are lost, and counted ({lost})")
    ok(ordered, f"{method}: the others are in order")
    came = after[0]["packets"] - before[0]["packets"]
    size = after[0]["bytes"] - before[0]["bytes"]
    ok(got <= came < got + 20 and 1032 * got <= size < 1032 * got + 2000,
       f"{method}: and counted, too ({came} packets, {size} bytes)")
    line.end(subprocess.Popen.terminate)
    ok(gone(), f"{method}: terminated, it leaves nothing")

    line = Wan(alpha, beta, method, rate="1Mbit", delay="1ms", buffer="64kB")
    before = line.command("stats")
    got, ordered = send(300)
    lost = missing(line.command("stats")) - missing(before)
    # As many as fit; by netem, which counts packets, as many as of full size would
    ok(got + lost == 300 and 40 < got < 75, f"{method}: a full buffer drops what comes then ({got} of 300 packets came)")
    line.end(subprocess.Popen.kill)
    ok(poll(gone, 5), f"{method}: killed, it leaves nothing, either")


bed = Bed(enter())
alpha = bed.host("alpha", 1)
beta = bed.host("beta", 2)
probe = Wan(alpha, beta, "netem")
probe.end(lambda process: process.stdin.close())
best = "tun" if "has no netem" in probe.said else "netem"
line = Wan(alpha, beta)
ok(line.said == f"ready {best}", f"asked for none, it takes {best} here ({line.said})")
line.end(lambda process: process.stdin.close())
for method in sys.argv[1:2] or ("tun", "netem"):
    if method == "netem" and best == "tun":
        skip("netem: the line", "this kernel has no netem")
    else:
        check(method, int(sys.argv[2]) if sys.argv[2:] else 40)
done()
