/*
 * vip.h
 *		The virtual addresses, by netlink (libmnl); IPv4 and IPv6.
 *
 * An address is added with a kernel lifetime that ends with the lease and is renewed with it, so
 * that it goes by itself when tandemd is killed.  Before it is added a duplicate is looked for
 * (ARP, or a neighbour solicitation: twice within 100 ms, RFC 5227 shortened); a stranger that
 * answers is told to the owner and the address stays off, tried again every half second.  After
 * adding: gratuitous ARP / unsolicited neighbour advertisements, a burst of 3 at once, again after
 * 5 s.  While it is there, a stranger that claims it is told, and answered with another burst.
 *
 * The kernel counts lifetimes in whole seconds and looks once a second: after a SIGKILL of tandemd
 * the address goes up to 1.3 s later than the second to which "until" was rounded down (but one
 * second is the least).
 */
#ifndef TANDEM_VIP_H
#define TANDEM_VIP_H

#include <systemd/sd-event.h>

#include "config.h"

typedef struct Vip Vip;

typedef enum VipState
{
	VIP_OFF,
	VIP_PROBING,
	VIP_ON,
	VIP_TAKEN, /* another host answers for it */
	VIP_FAILED /* netlink refused; see the text */
} VipState;

/* For log and events: at each change of state, and when something is to be said of it. */
typedef void (*VipTold)(void *user, int index, VipState state, const char *text);

/* Keeps c. Negative errno. */
extern int vip_new(Vip **v, const Config *c, sd_event *event, VipTold told, void *user);
/* Removes nothing: the addresses run out with their lifetime unless vip_remove() was called. */
extern void vip_free(Vip *v);
/* FSM_A_VIP_HOLD: add or renew all; their lifetime ends at "until" (CLOCK_BOOTTIME us; the kernel
 * counts whole seconds: rounded down, and removed by a timer of ours at the exact time). */
extern void vip_hold(Vip *v, int64_t until);
/* FSM_A_VIP_REMOVE: at once and synchronously. Also addresses an earlier tandemd left. */
extern void vip_remove(Vip *v);
extern VipState vip_state(const Vip *v, int index, const char **text);

#endif /* TANDEM_VIP_H */
