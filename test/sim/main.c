/*
 * main.c
 *		sim: runs many schedules of the decision core and says which of them violate a rule.
 *
 *	sim -n N [-s firstseed] [-l lease -S stop -M margin -H heartbeat]
 *		[-o mode,...] [-m mutation,...] [-d scene] [-x] [-e] [-v]
 *
 * Times are in seconds.  A seed with the same options replays a schedule exactly; -v prints its
 * trace. Exit status 0 if every schedule passed, 1 if one failed, 2 if the command line is wrong.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Options opt;
bool mutation[MUTATION_COUNT];
uint64_t edges_taken[MAX_EDGES];

static const struct
{
	const char *name;
	const char *mode;
	const char *rule;
	const char *what;
} mutations[] = {
#define X(name, mode, rule, what) {#name, mode, rule, what},
	MUTATIONS(X)
#undef X
};

static void
usage(void)
{
	fputs("usage: sim -n N [-s firstseed] [-l lease] [-S stop] [-M margin] [-H heartbeat]\n"
		  "           [-o mode,...] [-m mutation,...] [-d scene] [-x] [-e] [-v]\n"
		  "       sim -L        list mutations (name, mode, rule, what)\n"
		  "       sim -D        list directed scenes\n"
		  "       sim -E        list the edges of the state machine\n"
		  "modes: two nofence fence third wild freezeclock continue dr override nolive\n"
		  "-x stops at the first violation, -e counts the edges taken, -v prints traces\n",
		  stderr);
	exit(2);
}

static bool
set_mode(const char *name)
{
	struct
	{
		const char *name;
		bool *flag;
	} modes[] = {{"two", &opt.two},           {"nofence", &opt.nofence},
				 {"fence", &opt.fence},       {"third", &opt.third},
				 {"wild", &opt.wild},         {"freezeclock", &opt.freezeclock},
				 {"continue", &opt.proceed},  {"dr", &opt.dr},
				 {"override", &opt.override}, {"nolive", &opt.nolive}};

	for (size_t k = 0; k < sizeof(modes) / sizeof(modes[0]); k++)
		if (strcmp(modes[k].name, name) == 0)
			return *modes[k].flag = true;
	return false;
}

static bool
set_mutation(const char *name)
{
	for (int k = 0; k < MUTATION_COUNT; k++)
		if (strcmp(mutations[k].name, name) == 0)
			return mutation[k] = true;
	return false;
}

static void
set_list(char *list, bool (*set)(const char *))
{
	for (char *s = strtok(list, ","); s != NULL; s = strtok(NULL, ","))
		if (!set(s))
		{
			fprintf(stderr, "sim: unknown name: %s\n", s);
			usage();
		}
}

static void
list_edges(void)
{
	int n;
	const FsmEdge *e = fsm_edges(&n);

	for (int k = 0; k < n; k++)
		for (int s = 0; s < FSM_NSTATES; s++)
			if ((e[k].from & FSM_BIT(s)) != 0)
				printf("%s\t%s\t%s\t%s\n", fsm_state_name((FsmState) s), fsm_event_name(e[k].event),
					   fsm_state_name(e[k].to), e[k].reason);
}

static void
list(char what)
{
	if (what == 'L')
		for (int k = 0; k < MUTATION_COUNT; k++)
			printf("%s\t%s\t%s\t%s\n", mutations[k].name, mutations[k].mode, mutations[k].rule,
				   mutations[k].what);
	else if (what == 'D')
		for (int k = 0; k < directed_count(); k++)
			puts(directed_name(k));
	else
		list_edges();
	exit(0);
}

static int
by_size(const void *a, const void *b)
{
	Time x = *(const Time *) a;
	Time y = *(const Time *) b;

	return x < y ? -1 : x > y;
}

static FsmTime
seconds(const char *s)
{
	return (FsmTime) (atof(s) * 1e6 + 0.5);
}

typedef struct Results
{
	uint64_t n, failed, acks, promotions, events;
	Time *gaps[3];
	size_t ngaps[3];
} Results;

static void
count(Results *r, const World *w)
{
	int k = w->lost_kind;

	r->n++;
	r->failed += w->failed;
	r->acks += w->acks;
	r->promotions += w->promotions;
	r->events += w->events;
	if (k >= 0 && !w->failed)
		r->gaps[k][r->ngaps[k]++] = w->gap[k];
}

static void
report_failure(const World *w, char *const *argv)
{
	printf("FAILED seed %llu", (unsigned long long) w->seed);
	if (w->directed >= 0)
		printf(" (scene %s)", directed_name(w->directed));
	printf(" at %.4f s: %s\n  options:", (double) w->now / 1e6, w->why);
	for (int k = 1; argv[k] != NULL; k++)
	{
		if ((strcmp(argv[k], "-n") == 0 || strcmp(argv[k], "-s") == 0) && argv[k + 1] != NULL)
			k++;
		else
			printf(" %s", argv[k]);
	}
	putchar('\n');
}

/* Which edges of the state machine no schedule took: nothing is known about those. */
static void
coverage(bool detailed)
{
	int n;
	int taken = 0;
	const FsmEdge *e = fsm_edges(&n);

	for (int k = 0; k < n; k++)
		taken += edges_taken[k] > 0;
	printf("edges taken: %d of %d\n", taken, n);
	for (int k = 0; k < n && detailed; k++)
		printf("  %10llu  %s -> %s: %s\n", (unsigned long long) edges_taken[k],
			   fsm_event_name(e[k].event), fsm_state_name(e[k].to), e[k].reason);
}

static void
summary(Results *r, bool detailed)
{
	static const char *const what[] = {"primary", "standby", "witness"};

	printf("schedules %llu, acknowledgements %llu, starts as primary %llu, events %llu\n",
		   (unsigned long long) r->n, (unsigned long long) r->acks,
		   (unsigned long long) r->promotions, (unsigned long long) r->events);
	printf("lease %.2f s, V %.3f s, heartbeat %.3f s\n", (double) opt.timing.lease / 1e6,
		   (double) opt.timing.validity / 1e6, (double) opt.timing.heartbeat / 1e6);
	for (int k = 0; k < 3; k++)
	{
		if (r->ngaps[k] == 0)
			continue;
		qsort(r->gaps[k], r->ngaps[k], sizeof(Time), by_size);
		printf("no acknowledgement after the loss of the %s: median %.2f s, maximum %.2f s (%zu)\n",
			   what[k], (double) r->gaps[k][r->ngaps[k] / 2] / 1e6,
			   (double) r->gaps[k][r->ngaps[k] - 1] / 1e6, r->ngaps[k]);
	}
	coverage(detailed);
	printf("%llu passed, %llu failed\n", (unsigned long long) (r->n - r->failed),
		   (unsigned long long) r->failed);
}

int
main(int argc, char **argv)
{
	static World world;
	static Results r;
	uint64_t n = 2000;
	uint64_t first = 1;
	bool stop_at_first = false;
	bool detailed = false;

	opt.timing =
		(FsmTiming){.lease = 1500 * MS, .margin = 50 * MS, .stop = 400 * MS, .heartbeat = 300 * MS};
	for (int k = 1; k < argc; k++)
	{
		const char *a = argv[k];
		char *v = argv[k + 1];

		if (strlen(a) != 2 || a[0] != '-')
			usage();
		if (strchr("LDE", a[1]) != NULL)
			list(a[1]);
		if (strchr("vxe", a[1]) != NULL)
		{
			*(a[1] == 'v' ? &opt.verbose : a[1] == 'x' ? &stop_at_first : &detailed) = true;
			continue;
		}
		if (v == NULL)
			usage();
		k++;
		switch (a[1])
		{
			case 'n':
				n = strtoull(v, NULL, 10);
				break;
			case 's':
				first = strtoull(v, NULL, 10);
				break;
			case 'l':
				opt.timing.lease = seconds(v);
				break;
			case 'S':
				opt.timing.stop = seconds(v);
				break;
			case 'M':
				opt.timing.margin = seconds(v);
				break;
			case 'H':
				opt.timing.heartbeat = seconds(v);
				break;
			case 'd':
				opt.only = v;
				break;
			case 'o':
			case 'm':
			{
				char names[500];

				snprintf(names, sizeof(names), "%s", v);
				set_list(names, a[1] == 'o' ? set_mode : set_mutation);
				break;
			}
			default:
				usage();
		}
	}
	opt.timing.validity = fsm_timing_v(&opt.timing);
	if (opt.two && !opt.nofence && !opt.proceed)
		opt.fence = true;
	if (fsm_check_timing(&opt.timing) != FSM_TIMING_OK)
	{
		fprintf(stderr, "sim: %s\n", fsm_timing_text(fsm_check_timing(&opt.timing)));
		return 2;
	}
	for (int k = 0; k < 3; k++)
		if ((r.gaps[k] = malloc((size_t) (n + 1) * sizeof(Time))) == NULL)
			return 2;
	world.free_list = NONE;
	for (int i = 0; i < MAX_HOSTS; i++)
		world.h[i].deferred = world.h[i].pg.deferred = (Deferred){NONE, NONE};
	for (uint64_t seed = first; seed < first + n; seed++)
	{
		schedule_run(&world, seed);
		count(&r, &world);
		if (world.failed)
			report_failure(&world, argv);
		if (world.failed && stop_at_first)
			break;
	}
	summary(&r, detailed);
	return r.failed != 0;
}
