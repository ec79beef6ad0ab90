/*
 * agent.h
 *		One action on a service, by its agent: systemd, an OCF agent or an LSB script.
 *
 * Runs as root, with the kinds' own meaning of exit statuses.
 */
#ifndef TANDEM_AGENT_H
#define TANDEM_AGENT_H

#include "config.h"
#include "program.h"

typedef enum AgentAction
{
	AGENT_START,
	AGENT_STOP,
	AGENT_STATUS
} AgentAction;

typedef enum AgentResult
{
	AGENT_OK, /* started, stopped; it runs */
	AGENT_NOT_RUNNING /* AGENT_STATUS: it does not run, and nothing of it is left */,
	AGENT_FAILED
} AgentResult;

/* The program's end, as for program_run().  Negative errno if it cannot be started. */
extern int agent_run(Program **program, sd_event *event, const ConfigResource *resource,
					 AgentAction action, void (*done)(void *, int, const char *), void *user);
extern AgentResult agent_result(const ConfigResource *resource, AgentAction action, int status);
extern const char *agent_action_name(AgentAction action);

#endif /* TANDEM_AGENT_H */
