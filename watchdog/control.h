/*
 * control.h
 *		tandemctl's side of tandemd: a Unix socket <run_directory>/<node>.control.
 *
 * SOCK_SEQPACKET; one request is one JSON object {"command": ...}, one answer is one JSON object
 * {"ok": ..., "text": ..., ...}.  Only root and os_user are served (SO_PEERCRED).  Commands that
 * concern the primary are answered by the primary alone: another node refuses and says whom to
 * ask, so that an operator always knows which node acted.
 */
#ifndef TANDEM_CONTROL_H
#define TANDEM_CONTROL_H

#include <systemd/sd-event.h>

#include "config.h"

#define CONTROL_MAX_ANSWER (256 * 1024)

struct Manager;
typedef struct Control Control;

extern int control_new(Control **ctl, struct Manager *m, sd_event *event);
extern void control_free(Control *ctl);

#endif /* TANDEM_CONTROL_H */
