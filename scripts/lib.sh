# What scripts/demo and scripts/test share; they source it. Both build a copy of the
# checkout in a directory of their own, $work, run servers there as user postgres, and
# leave nothing behind but what "make install" installed.
#
# Two variables matter to the reader of those scripts: $top, the checkout, and $work.
# Everything that is started is a descendant of the script, or a server whose data
# directory is below $work; end_all() finds and ends both kinds, and no other process.
# shellcheck shell=bash

set -euo pipefail
umask 022
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH"
export LANG=C.UTF-8
unset LC_ALL LANGUAGE

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
work=

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Sets up: root, the packages (all | test), $work with a copy of the checkout in $work/src.
set_up() {
	[ "$(id -u)" -eq 0 ] || die "must be run as root: it installs packages, and pg_tandem"
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP

	# Below /tmp: the path of a socket must be short, and user postgres must reach it.
	work=$(realpath "$(mktemp -d /tmp/pg_tandem.XXXXXX)")
	cd "$work"
	install_packages "$1"
	[ -x "$pg_config" ] || die "there is no $pg_config"
	bindir=$("$pg_config" --bindir)

	# Servers may raise the priority of their processes, as with LimitNICE= of a unit (tandem.nice).
	local nice=()
	setpriv --inh-caps=+sys_nice true 2>/dev/null && nice=(--inh-caps=+sys_nice --ambient-caps=+sys_nice)

	# --default-signal: the shell makes programs in the background ignore SIGINT and SIGQUIT.
	# shellcheck disable=SC2034
	as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups "${nice[@]}"
		env -i "--default-signal=INT,QUIT" "PATH=$bindir:$PATH" "LANG=$LANG" "HOME=$work"
		"TMPDIR=$work/tmp" "PG_CONFIG=$pg_config")

	mkdir -p "$work/src/build" "$work/tmp"
	copy_checkout "$work/src"
	chown -R postgres: "$work"
	# Root's, but for what user postgres makes there: tandemd takes no state_directory below another user's.
	chown root:postgres "$work" "$work/tmp"
	chmod 1770 "$work" "$work/tmp"
}

# Copies what belongs to the project, committed or not, and nothing that was built.
copy_checkout() {
	(
		cd "$top"
		git -c safe.directory="*" ls-files -z --cached --others --exclude-standard |
			perl -0ln -e 'print if -e || -l' |
			tar -c --null --no-recursion -T -
	) | tar -x -C "$1" --no-same-owner
}

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_install() {
	apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" \
		>>"$work/apt.log" 2>&1 </dev/null || apt_failed
}

apt_failed() {
	tail -n 20 "$work/apt.log" >&2
	die "could not install packages"
}

# Installs the packages of scripts/packages that are missing.
install_packages() {
	local name who missing=()

	while read -r name who _; do
		case $who in
			all | "$1") is_installed "$name" || missing+=("$name") ;;
		esac
	done < <(grep -v '^#' "$top/scripts/packages")
	[ ${#missing[@]} -gt 0 ] || return 0

	say "Installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >>"$work/apt.log" 2>&1 </dev/null || apt_failed

	# A new postgresql-15 would create a cluster and start it on port 5432. Nobody asked for one.
	if ! is_installed postgresql-15; then
		apt_install postgresql-common
		cp -p /etc/postgresql-common/createcluster.conf "$work/createcluster.conf"
		echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
	fi
	apt_install "${missing[@]}"
	restore_createcluster
}

restore_createcluster() {
	if [ -f "$work/createcluster.conf" ]; then
		cp -p "$work/createcluster.conf" /etc/postgresql-common/createcluster.conf
		rm "$work/createcluster.conf"
	fi
}

# Prints N ports that nothing listens on: they were all bound at the same time. They are
# below the range the kernel takes the ports of outgoing connections from.
free_ports() {
	perl -MIO::Socket::INET -e '
		my @taken;
		while (@taken < $ARGV[0]) {
			my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 10000 + int rand 20000);
			push @taken, $s if $s;
		}
		print join(" ", map { $_->sockport } @taken), "\n";' "$1"
}

# Waits (LIMIT seconds) until COMMAND succeeds.
poll() {
	local limit=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$limit" ] || return 1
		sleep 0.1
	done
}

# The pids of all descendants of process $1. (cat: processes come and go while it reads.)
descendants() {
	{ cat /proc/[0-9]*/status 2>/dev/null || true; } | awk -v ancestor="$1" '
		/^Pid:/ { pid = $2 }
		/^PPid:/ { parent[pid] = $2 }
		END {
			for (pid in parent) {
				for (p = parent[pid]; p > 1 && p != ancestor; p = parent[p])
					;
				if (p == ancestor)
					print pid
			}
		}'
}

# The pids of the servers that run below directory $1. (A server's current directory is its data
# directory: a pid that was left in a file and belongs to another process now is not taken.)
servers() {
	local file pid

	find "$1" -name postmaster.pid -type f 2>/dev/null | while read -r file; do
		pid=$(head -n 1 "$file") || continue # gone meanwhile
		if [ "$(readlink "/proc/$pid/cwd")" = "${file%/*}" ]; then
			echo "$pid"
		fi
	done
}

# True when none of the given processes runs.
all_ended() {
	local pid

	for pid in "$@"; do
		if [ -d "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; then
			return 1
		fi
	done
}

# A server that was killed leaves a shared memory segment, named in its postmaster.pid. (The key is
# an int that was printed as unsigned long.)
remove_shared_memory() {
	local file key id

	find "$1" -name postmaster.pid -type f 2>/dev/null | while read -r file; do
		read -r key id < <(sed -n 7p "$file") || continue
		awk -v key="$((key & 0xffffffff))" -v id="$id" '
			$1 + ($1 < 0 ? 4294967296 : 0) == key && $2 == id && $7 == 0 { print id }' \
			/proc/sysvipc/shm | xargs -r -n 1 ipcrm -m
	done
}

# Ends every process that was started from here and still runs, or, with a directory and a
# process, the servers below the one and the descendants of the other.
end_all() {
	local pids directory=${1:-$work} ancestor=${2:-$$}

	# An immediate shutdown: a server is gone at once, and gives back its shared memory.
	mapfile -t pids < <(servers "$directory")
	[ ${#pids[@]} -eq 0 ] || kill -QUIT "${pids[@]}" 2>/dev/null || true
	mapfile -t -O ${#pids[@]} pids < <(descendants "$ancestor")
	[ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
	if ! poll 10 all_ended "${pids[@]}"; then
		mapfile -t -O ${#pids[@]} pids < <(servers "$directory")
		kill -KILL "${pids[@]}" 2>/dev/null || true
		poll 5 all_ended "${pids[@]}" || true
	fi
	remove_shared_memory "$directory"
}

# Ends what still runs, and removes $work. The EXIT trap.
clean_up() {
	trap '' INT TERM HUP
	set +e
	[ -n "$work" ] || return
	end_all
	restore_createcluster
	cd /
	rm -rf "$work"
}
