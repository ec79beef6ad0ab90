"""What the benchmarks share: servers in a temporary directory, and their end.

Everything is made in one directory (Bench.work), run as user postgres if the caller is
root, and removed again whatever happens. The servers are children of the script, so they
are ended by their pids and no other process can be meant.
"""

import hashlib
import os
import platform
import pwd
import random
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
TICK = os.sysconf("SC_CLK_TCK")

# The same for every server of every contestant. No checkpoint, no vacuum and no background
# writing happens while something is measured, unless a benchmark asks for it.
COMMON_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{work}'
max_connections = 100
autovacuum = off
bgwriter_lru_maxpages = 0
checkpoint_timeout = 1d
max_wal_size = 100GB
wal_retrieve_retry_interval = 100ms
log_checkpoints = off
"""


class BenchError(Exception):
    pass


def say(text=""):
    print(text, flush=True)


def progress(text):
    print(text, file=sys.stderr, flush=True)


def poll(condition, seconds, what):
    """Waits until condition() is true, and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise BenchError(what() if callable(what) else f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


# ------------------------------------------------------------------- processes


def stat_of(pid):
    """The fields of /proc/PID/stat after the name, or None if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_of(pid):
    """CPU seconds of a process, and those of its children that have ended."""
    fields = stat_of(pid)
    if fields is None:
        raise BenchError(f"process {pid} has ended")
    own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / TICK, children / TICK


def children_of(parent):
    """{pid: title} of the children of a process."""
    found = {}
    try:
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as f:
            pids = f.read().split()
    except OSError:  # a kernel without that file, or the process has ended
        pids = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    for pid in pids:
        fields = stat_of(pid)
        if fields is None or int(fields[1]) != parent:
            continue
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                found[int(pid)] = f.read().replace("\0", " ").strip()
        except OSError:
            pass
    return found


def private_kb(pid):
    """Private memory of a process in kB: what it alone has, so without shared buffers."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))
    except OSError:
        return 0


def remove_shared_memory(data):
    """A postmaster that was killed leaves a segment, named in line 7 of its postmaster.pid
    (an int that was printed as unsigned long), for the next start in that directory."""
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as f:
            key, number = map(int, f.read().split("\n")[6].split())
        with open("/proc/sysvipc/shm", encoding="ascii") as f:
            segments = [line.split() for line in f.read().splitlines()[1:]]
    except (OSError, ValueError, IndexError):  # it ended in good order, or never came so far
        return
    for segment in segments:
        if (int(segment[0]) ^ key) & 0xFFFFFFFF == 0 and int(segment[1]) == number and segment[6] == "0":
            subprocess.run(["ipcrm", "-m", segment[1]], check=False)


# --------------------------------------------------------------------- servers


class Server:
    """In 'space', the path of a network namespace, if it is not to be in that of the benchmark."""

    def __init__(self, bench, name, space=None):
        self.bench = bench
        self.name = name
        self.space = space
        self.port = bench.free_port()
        self.link_port = bench.free_port()
        self.data = os.path.join(bench.work, name)
        self.log = os.path.join(bench.work, name + ".log")
        self.process = None

    def configure(self, text):
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
            f.write(text)

    def start(self, wait=True):
        # Not by pg_ctl: as our child it can be ended by its pid whatever happens. Its own
        # session keeps Ctrl-C away from it; it is ended in order.
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = self.bench.popen_server(
                [self.bench.bin("postgres"), "-D", self.data],
                env=self.bench.server_env,
                space=self.space,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self):
        poll(self._is_ready, 60, f"{self.name} does not start")

    def _is_ready(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} did not start")
        command = [self.bench.bin("pg_isready"), "-q", "-h", self.bench.work, "-p", str(self.port)]
        return self.bench.run(command, check=False).returncode == 0

    def stop(self, how=signal.SIGINT, seconds=60):
        """Fast shutdown, or with SIGQUIT an immediate one."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                if how != signal.SIGQUIT:
                    raise BenchError(f"{self.name} does not stop") from None
                self.process.kill()
                self.process.wait()
        self.process = None
        remove_shared_memory(self.data)

    def client(self, program, *arguments, options="", **keywords):
        """Runs a client program of PostgreSQL on this server; options are for PGOPTIONS."""
        env = dict(self.bench.env)
        env.update(PGHOST=self.bench.work, PGPORT=str(self.port), PGUSER="postgres")
        env.update(PGDATABASE="postgres", PGOPTIONS=options)
        return self.bench.run([self.bench.bin(program), *arguments], env=env, **keywords)

    def sql(self, *statements, options="", timeout=60):
        """The rows of the statements, as lists of strings. Commits do not wait for a
        standby here: nothing of this is measured."""
        arguments = ["-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
        for statement in statements:
            arguments += ["-c", statement]
        result = self.client(
            "psql",
            *arguments,
            options="-c synchronous_commit=local " + options,
            timeout=timeout,
        )
        return [line.split("\t") for line in result.stdout.splitlines()]

    def value(self, statement, **keywords):
        rows = self.sql(statement, **keywords)
        return rows[0][0] if rows else None

    def processes(self):
        return children_of(self.process.pid)


class Pair:
    """A primary and, for most contestants, its standby."""

    def __init__(self, name, primary, standby=None):
        self.name = name
        self.primary = primary
        self.standby = standby
        self.tandem = False

    def servers(self):
        return [s for s in (self.primary, self.standby) if s is not None]

    def state(self, options=""):
        """What a session started with these options would wait for, as one line."""
        row = self.primary.sql(
            "SELECT current_setting('synchronous_commit'), "
            "coalesce((SELECT string_agg(application_name, ' ') FROM pg_stat_replication "
            "WHERE sync_state = 'sync' AND state = 'streaming'), 'nothing')"
            + (", s.state, l.state, l.in_sync, l.encrypted, s.capture FROM tandem.status s "
               "LEFT JOIN tandem.links l ON true" if self.tandem else ""), options=options)
        return "; ".join(",".join(fields) for fields in row)

    def wait_state(self, wanted, options="", seconds=30):
        poll(lambda: self.state(options) == wanted, seconds,
             lambda: f"{self.name} is not \"{wanted}\" but \"{self.state(options)}\"")

    def wait_replayed(self, seconds=120):
        lsn = self.primary.value("SELECT pg_current_wal_flush_lsn()")
        poll(
            lambda: self.standby.value(
                f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == "t",
            seconds,
            f"{self.standby.name} does not replay up to {lsn}",
        )


class Bench:
    """The temporary directory, and what runs in it. To be used with 'with'."""

    def __init__(self, directory=None, slow_us=0):
        self.directory = directory
        self.slow_us = slow_us
        self.servers = []
        self.ports = set()
        self.work = None

    def __enter__(self):
        # Also SIGINT: in the background it would be ignored.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, frame: sys.exit(128 + received))
        try:
            self._set_up()
        except BaseException:
            self.clean_up()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, Exception):
            self._show_logs()
        self.clean_up()

    def _set_up(self):
        self.identity = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self.identity = {
                "user": user.pw_uid,
                "group": user.pw_gid,
                "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid),
            }
        # A short path: those of the sockets must be short.
        self.work = os.path.realpath(tempfile.mkdtemp(prefix="pg_tandem.", dir=self.directory))
        if self.identity:
            os.chown(self.work, self.identity["user"], self.identity["group"])

        default = "/usr/lib/postgresql/15/bin/pg_config"
        self.pg_config = os.environ.get("PG_CONFIG") or (
            default if os.path.exists(default) else "pg_config")
        self.env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": self.work,
            "PGPASSFILE": os.path.join(self.work, "pgpass"),
        }
        self.bindir = self.run([self.pg_config, "--bindir"]).stdout.strip()
        self.server_env = dict(self.env)
        if self.slow_us > 0:
            library = os.path.join(self.work, "slow_fsync.so")
            with open(os.path.join(HERE, "slow_fsync.c"), encoding="utf-8") as source:
                self.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"],
                         stdin=source)
            self.server_env.update(LD_PRELOAD=library, SLOW_US=str(self.slow_us))

    def clean_up(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for server in self.servers:
            if server.process is not None:
                server.process.send_signal(signal.SIGQUIT)
        for server in self.servers:
            server.stop(signal.SIGQUIT, 15)
        if self.work is not None:
            shutil.rmtree(self.work, ignore_errors=True)

    def _show_logs(self):
        for server in self.servers:
            try:
                with open(server.log, encoding="utf-8", errors="replace") as f:
                    lines = f.readlines()[-8:]
            except OSError:
                continue
            progress(f"--- {server.name}")
            progress("".join(lines).rstrip())

    def bin(self, program):
        return os.path.join(self.bindir, program)

    def popen(self, command, identity=None, **keywords):
        """Starts a program."""
        keywords.setdefault("env", self.env)
        keywords.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(command, cwd=self.work, umask=0o077,
                                **(self.identity if identity is None else identity), **keywords)

    def popen_server(self, command, space=None, **keywords):
        """Starts a server; 'space' is a network namespace, and only for root.

        It may give its processes a better nice value, as with LimitNICE= or
        AmbientCapabilities=CAP_SYS_NICE of a unit. (A limit cannot be raised everywhere.)
        """
        if not self.identity:
            return self.popen(command, **keywords)
        # All replace themselves by what they start, so the process is still our child.
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
                   "--inh-caps=+sys_nice", "--ambient-caps=+sys_nice", "--", *command]
        if space is not None:
            command = ["nsenter", f"--net={space}", *command]
        return self.popen(command, identity={}, **keywords)

    def run(self, command, env=None, check=True, timeout=60, stdin=subprocess.DEVNULL):
        """Runs a program to its end. A commit without a standby waits for ever, so
        everything has a time limit."""
        try:
            result = subprocess.run(command, env=env or self.env, cwd=self.work, stdin=stdin,
                                    capture_output=True, text=True, timeout=timeout, umask=0o077,
                                    check=False, **self.identity)
        except subprocess.TimeoutExpired:
            raise BenchError(f"took longer than {timeout} s: {' '.join(command)}") from None
        if check and result.returncode != 0:
            raise BenchError(f"{' '.join(command)}: {result.stderr.strip()}")
        return result

    def write(self, name, text):
        path = os.path.join(self.work, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o600)
        if self.identity:
            os.chown(path, self.identity["user"], self.identity["group"])
        return path

    def free_port(self):
        """A port that nothing listens on, and that was not given out before. It is below
        the range that the kernel takes the ports of outgoing connections from."""
        while True:
            port = random.randrange(10000, 30000)
            with socket.socket() as s:
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in self.ports:
                self.ports.add(port)
                return port

    # --- making servers

    def make_template(self, settings=""):
        """A cluster that the others are copies of. It is returned running."""
        password = secrets.token_hex(16)
        self.write("password", password)
        self.write("pgpass", f"127.0.0.1:*:*:postgres:{password}\n")
        template = Server(self, "template")
        self.servers.append(template)
        self.run([self.bin("initdb"), "-U", "postgres", "-N", "--auth-local=trust",
                  "--auth-host=scram-sha-256", f"--pwfile={self.work}/password", "-D",
                  template.data])
        template.configure(COMMON_SETTINGS.format(work=self.work) + settings +
                           f"port = {template.port}\n")
        template.start()
        return template

    def copy(self, template, name, space=None):
        """A copy of a cluster that is stopped, with ports of its own."""
        server = Server(self, name, space)
        self.run(["cp", "-a", template.data, server.data], timeout=300)
        server.configure(f"\nport = {server.port}\n")
        self.servers.append(server)
        return server

    def remove(self, server):
        server.stop()
        self.servers.remove(server)
        shutil.rmtree(server.data)

    def has_capture_setting(self, template):
        """Can the point of capture be chosen? 'template' is stopped."""
        server = self.copy(template, "probe")
        server.configure("shared_preload_libraries = 'pg_tandem'\n"
                         f"tandem.port = {server.link_port}\n")
        server.start()
        found = server.value("SELECT count(*) FROM pg_settings WHERE name = 'tandem.capture'")
        self.remove(server)
        return found == "1"

    def make_pair(self, template, name, library=False, standby=True, settings="",
                  address="127.0.0.1", space=None):
        """A primary from the template, and its standby; running, but not waited for. The
        settings are for both, and count more than what is set here. The standby is in the
        network namespace 'space', and reaches the primary at that address."""
        pair = Pair(name, self.copy(template, name))
        pair.tandem = library and standby
        if standby:
            pair.standby = self.copy(template, name + "-standby", space)
        for server, role in ((pair.primary, "primary"), (pair.standby, "standby")):
            if server is None:
                continue
            server.configure(f"cluster_name = '{role}'\n")
            if library:
                server.configure("shared_preload_libraries = 'pg_tandem'\n"
                                 f"tandem.port = {server.link_port}\n")
            if standby:
                names = "tandem" if library else "standby"
                server.configure(f"synchronous_standby_names = '{names}'\n")
            server.configure(settings + "\n")
        if not standby:
            pair.primary.start()
            return pair

        # Without TLS: a link has it switched off, too, unless a row says otherwise.
        pair.standby.configure(
            f"primary_conninfo = 'host={address} port={pair.primary.port} user=postgres "
            f"sslmode=disable passfile={self.work}/pgpass'\nprimary_slot_name = 'standby'\n")
        with open(os.path.join(pair.standby.data, "standby.signal"), "w", encoding="utf-8"):
            pass
        pair.primary.start()
        pair.primary.sql("SELECT pg_create_physical_replication_slot('standby', true)")
        if library:
            pair.primary.sql("CREATE EXTENSION pg_tandem")
        pair.standby.start()
        return pair

    # --- the machine

    def fdatasync_us(self):
        """Microseconds that writing 8 kB and fdatasync takes, median."""
        path = os.path.join(self.work, "fdatasync")
        times = []
        with open(path, "wb", buffering=0) as f:
            f.write(bytes(1024 * 1024))
            os.fsync(f.fileno())
            for _ in range(200):
                begin = time.perf_counter()
                os.pwrite(f.fileno(), secrets.token_bytes(8192), 0)
                os.fdatasync(f.fileno())
                times.append(time.perf_counter() - begin)
        os.unlink(path)
        return statistics.median(times) * 1e6

    def machine(self):
        """Lines that describe the machine and the versions."""
        model = "unknown"
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                if line.startswith("model name"):
                    model = line.partition(":")[2].strip()
                    break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        library = os.path.join(
            self.run([self.pg_config, "--pkglibdir"]).stdout.strip(), "pg_tandem.so")
        with open(library, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()[:12]
        with open("/proc/loadavg", encoding="ascii") as f:
            load = f.read().split()[0]
        kind = self.run(["df", "--output=fstype", self.work]).stdout.split()[-1]
        return [
            "date\t" + time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            f"machine\t{model}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.machine()}",
            f"kernel\t{platform.release()}",
            f"disk\t{kind}, 8 kB write and fdatasync {self.fdatasync_us():.0f} us (median), "
            f"slowed by {self.slow_us} us",
            "nice\t" + ("every server may raise the priority of its processes; core does not"
                       if self.identity else "no server may raise the priority of its processes"),
            "server\t" + self.run([self.bin("postgres"), "--version"]).stdout.strip(),
            f"pg_tandem\tcommit {git_commit()}, installed library sha256 {digest}",
            f"load\t{load} before the start, {other_load():.0%} of all CPU time busy",
        ]


def git_commit():
    git = ["git", "-c", "safe.directory=*", "-C", TOP]
    try:
        commit = subprocess.run(git + ["rev-parse", "--short", "HEAD"], capture_output=True,
                                text=True, check=True).stdout.strip()
        changed = subprocess.run(git + ["status", "--porcelain", "--", "extension", "link"],
                                 capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with changes" if changed else "")


def other_load(seconds=1):
    """How much of the machine is busy now, with nothing of ours running."""
    def read():
        with open("/proc/stat", encoding="ascii") as f:
            fields = [int(x) for x in f.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(seconds)
    total2, idle2 = read()
    return 1 - (idle2 - idle) / max(total2 - total, 1)


def command_line():
    """How the benchmark was called, for the raw results, but for where they and the servers were."""
    words = [os.path.basename(sys.argv[0])]
    arguments = iter(sys.argv[1:])
    for word in arguments:
        option, is_one, _ = word.partition("=")
        if option not in ("--out", "--dir"):
            words.append(word)
        elif not is_one:
            next(arguments)
    return "# command\t" + " ".join(words) + "\n"


def result_paths(directory, name):
    """Where the raw results and the table go: (NAME.tsv, NAME.txt)."""
    os.makedirs(directory, exist_ok=True)
    base = os.path.join(directory, name + time.strftime("-%Y%m%d-%H%M%S", time.gmtime()))
    return base + ".tsv", base + ".txt"


def end_of(main):
    """Runs main() and turns an expected error into a message."""
    try:
        main()
    except BenchError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
