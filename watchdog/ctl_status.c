/*
 * ctl_status.c
 *		tandemctl status for people.
 *
 * The first lines say what matters: who is primary, whether a failover is possible now, what would
 * be lost.  Details follow.  Everything comes from the JSON that tandemd sends.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl.h"

static const char *
string(const json_t *o, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : otherwise;
}

static void
format_bytes(double bytes, char *text, size_t size)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	size_t i = 0;

	while (bytes >= 1024 && i + 1 < sizeof(units) / sizeof(units[0]))
	{
		bytes /= 1024;
		i++;
	}
	snprintf(text, size, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

static void
format_seconds(json_int_t seconds, char *text, size_t size)
{
	if (seconds < 120)
		snprintf(text, size, "%d s", (int) seconds);
	else if (seconds < 7200)
		snprintf(text, size, "%d min", (int) (seconds / 60));
	else
		snprintf(text, size, "%d h %d min", (int) (seconds / 3600), (int) (seconds / 60 % 60));
}

void
ctl_progress(const json_t *status, char *text, size_t size)
{
	const json_t *busy = json_object_get(json_object_get(status, "postgres"), "busy");
	char part[32];
	size_t n;

	text[0] = '\0';
	if (!json_is_object(busy))
		return;
	n = (size_t) snprintf(text, size, "%s", string(busy, "what", "?"));
	if (json_is_integer(json_object_get(busy, "percent")) && n < size)
		n += (size_t) snprintf(text + n, size - n, " %d %%",
							   (int) json_integer_value(json_object_get(busy, "percent")));
	format_bytes((double) json_integer_value(json_object_get(busy, "bytes")), part, sizeof(part));
	if (n < size)
		n += (size_t) snprintf(text + n, size - n, ", %s", part);
	format_bytes((double) json_integer_value(json_object_get(busy, "bytes_per_s")), part,
				 sizeof(part));
	if (n < size)
		n += (size_t) snprintf(text + n, size - n, ", %s/s", part);
	if (json_is_integer(json_object_get(busy, "left_s")) && n < size)
	{
		format_seconds(json_integer_value(json_object_get(busy, "left_s")), part, sizeof(part));
		snprintf(text + n, size - n, ", %s left", part);
	}
}

/* ---------- the parts ---------- */

static void
show_head(const json_t *s)
{
	const json_t *failover = json_object_get(s, "failover");
	const char *primary = string(s, "primary", NULL);
	const char *standby = string(json_object_get(s, "record"), "standby", NULL);
	time_t now = time(NULL);
	struct tm tm;
	char stamp[32];

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S UTC", &tm);
	printf("cluster %s, as node %s sees it at %s\n\n", string(s, "cluster", "?"),
		   string(s, "node", "?"), stamp);
	if (primary == NULL)
		printf("primary            none\n");
	else
		printf("primary            %s, %s%s\n", primary,
			   standby != NULL ? "in sync with " : "no standby in sync",
			   standby != NULL ? standby : "");
	if (json_is_true(json_object_get(failover, "possible")))
		printf("failover possible  yes, to %s\n", string(failover, "to", "?"));
	else
		printf("failover possible  no, because %s\n", string(failover, "why", "?"));
	printf("would be lost      %s\n", string(json_object_get(s, "loss"), "text", "?"));
	if (json_is_true(json_object_get(s, "paused")))
		printf("paused             nothing is failed over, restarted, left or joined from here "
			   "(tandemctl resume)\n");
}

/* Profile dr: how long there is to confirm. */
static void
show_confirm(const json_t *s)
{
	const json_t *confirm = json_object_get(s, "confirm");
	char left[32];

	if (!json_is_object(confirm))
		return;
	if (json_is_true(json_object_get(confirm, "told_to_wait")))
		printf("waits for          the primary, or: tandemctl confirm failover\n");
	else if (!json_is_true(json_object_get(confirm, "fails_over")))
		printf("waits for          an operator: tandemctl confirm failover|wait%s%s%s\n",
			   string(confirm, "veto", NULL) != NULL ? " (" : "", string(confirm, "veto", ""),
			   string(confirm, "veto", NULL) != NULL ? ")" : "");
	else
	{
		bool majority = json_is_true(json_object_get(confirm, "majority"));
		bool proceed = strcmp(string(confirm, "without_majority", ""), "proceed") == 0;

		format_seconds(json_integer_value(json_object_get(confirm, "left_s")), left, sizeof(left));
		if (majority)
			printf("fails over in      %s, or at once by: tandemctl confirm failover\n", left);
		else if (json_is_true(json_object_get(confirm, "fence")))
			printf("fails over in      %s, or at once by: tandemctl confirm failover,\n"
				   "                   when the fence agent says that the primary's host is off\n",
				   left);
		else if (proceed)
			printf("fails over in      %s, WITHOUT A MAJORITY of voters: if the primary lives "
				   "there are "
				   "two then.\n                   To prevent it: tandemctl confirm wait\n",
				   left);
		else
			printf("waits for          a majority of voters (confirm_without_majority = refuse), "
				   "%s at least,\n                   or: tandemctl confirm failover "
				   "--force-quorum=NODE\n",
				   left);
	}
}

/* A majority was replaced by the word of an operator, or by confirm_without_majority = proceed. */
static void
show_taken_to_be_off(const json_t *s)
{
	const json_t *list = json_object_get(s, "taken_to_be_off");
	size_t i;
	json_t *n;

	if (json_array_size(list) == 0)
		return;
	printf("WARNING            without a majority of voters: ");
	json_array_foreach(list, i, n) printf("%s%s", i > 0 ? ", " : "", json_string_value(n));
	printf(" taken to be off.\n                   If a primary lives there, there are two.\n");
}

static void
format_heard(const json_t *n, char *text, size_t size)
{
	const json_t *ms = json_object_get(n, "heard_ms");

	if (json_is_true(json_object_get(n, "self")))
		snprintf(text, size, "this node");
	else if (!json_is_integer(ms))
		snprintf(text, size, "never");
	else if (json_is_true(json_object_get(n, "heard")))
		snprintf(text, size, "%.1f s ago", (double) json_integer_value(ms) / 1000);
	else
		snprintf(text, size, "SILENT %.0f s", (double) json_integer_value(ms) / 1000);
}

static void
show_paths(const json_t *n)
{
	const json_t *list = json_object_get(n, "paths");
	size_t i;
	json_t *p;

	if (json_array_size(list) < 2)
		return;
	json_array_foreach(list, i, p)
	{
		if (json_is_true(json_object_get(p, "alive")) ||
			(json_is_true(json_object_get(p, "stands_in")) &&
			 !json_is_integer(json_object_get(p, "heard_ms"))))
			continue;
		printf("    path %zu to %s (%s) is silent\n", i + 1, string(n, "name", "?"),
			   string(p, "address", "?"));
	}
}

static void
show_nodes(const json_t *s)
{
	const json_t *nodes = json_object_get(s, "nodes");
	size_t i;
	json_t *n;

	printf("\n  %-16s %-24s %-16s %-18s %-10s %s\n", "node", "role", "state", "LSN", "behind",
		   "heard");
	json_array_foreach(nodes, i, n)
	{
		const json_t *lag = json_object_get(n, "lag_bytes");
		bool primary = strcmp(string(n, "role", ""), "primary") == 0;
		char behind[32] = "-";
		char heard[32];

		if (json_is_integer(lag) && !primary)
			format_bytes((double) json_integer_value(lag), behind, sizeof(behind));
		format_heard(n, heard, sizeof(heard));
		printf("%s %-16s %-24s %-16s %-18s %-10s %s%s\n",
			   json_is_true(json_object_get(n, "self")) ? "*" : " ", string(n, "name", "?"),
			   string(n, "role", "?"), string(n, "state", "-"), string(n, "lsn", "-"), behind,
			   heard, json_is_true(json_object_get(n, "paused")) ? ", paused" : "");
	}
	json_array_foreach(nodes, i, n) show_paths(n);
}

static void
show_lease(const json_t *s)
{
	const json_t *lease = json_object_get(s, "lease");
	const json_t *record = json_object_get(s, "record");
	const char *holder = string(lease, "holder", NULL);

	printf("\nrecord     term %" JSON_INTEGER_FORMAT ", sequence %" JSON_INTEGER_FORMAT
		   ": primary %s, standby in sync %s%s\n",
		   json_integer_value(json_object_get(record, "term")),
		   json_integer_value(json_object_get(record, "sequence")),
		   string(record, "primary", "none"), string(record, "standby", "none"),
		   json_is_true(json_object_get(record, "lossy")) ? " (commits may have been lost)" : "");
	if (holder != NULL)
		printf("lease      %s, for %.1f s of %.1f s\n", holder,
			   (double) json_integer_value(json_object_get(lease, "left_ms")) / 1000,
			   (double) json_integer_value(json_object_get(lease, "length_ms")) / 1000);
	else
		printf("lease      nobody's, as far as this voter granted it\n");
	if (!json_is_true(json_object_get(lease, "admitted")))
		printf("           this voter has lost its state and does not vote (tandemctl readmit)\n");
}

static void
show_postgres(const json_t *s)
{
	const json_t *pg = json_object_get(s, "postgres");
	const char *refusal = string(pg, "refusal", NULL);
	char progress[128];

	if (!json_is_object(pg))
		return;
	printf("PostgreSQL %s", string(pg, "state", "?"));
	if (!json_is_true(json_object_get(pg, "extension")))
		printf(", the extension is not connected");
	else if (strcmp(string(pg, "state", ""), "primary") == 0)
		printf(", %s, commits %s",
			   json_is_true(json_object_get(pg, "open")) ? "open to clients"
														 : "not open to clients yet",
			   json_is_true(json_object_get(pg, "require")) ? "wait for the standby"
															: "need local durability only");
	if (strcmp(string(pg, "state", ""), "broken") == 0)
		printf(": %s", string(pg, "text", ""));
	printf("\n");
	ctl_progress(s, progress, sizeof(progress));
	if (progress[0] != '\0')
		printf("           %s\n", progress);
	if (refusal != NULL)
		printf("           the primary refused the link: %s\n", refusal);
}

static void
show_services(const json_t *s)
{
	const json_t *list = json_object_get(s, "vip");
	const char *device = string(s, "watchdog_device", NULL);
	size_t i;
	json_t *o;

	json_array_foreach(list, i, o)
		printf("VIP        %s dev %s: %s%s%s\n", string(o, "address", "?"),
			   string(o, "device", "?"), string(o, "state", "?"),
			   string(o, "text", "")[0] != '\0' ? ", " : "", string(o, "text", ""));
	list = json_object_get(s, "resources");
	json_array_foreach(list, i, o)
		printf("resource   %s: %s\n", string(o, "name", "?"), string(o, "text", "?"));
	if (device != NULL && device[0] != '\0')
		printf("watchdog   %s\n", device);
}

void
ctl_show_status(const json_t *s)
{
	show_head(s);
	show_confirm(s);
	show_taken_to_be_off(s);
	show_nodes(s);
	show_lease(s);
	show_postgres(s);
	show_services(s);
}
