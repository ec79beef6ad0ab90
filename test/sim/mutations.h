/*
 * mutations.h
 *		Every way in which a rule can be broken on purpose (sim -m name).
 *
 * X(name, mode, rule, what): mode = the command line it is looked for with, beside -m.
 */
#ifndef SIM_MUTATIONS_H
#define SIM_MUTATIONS_H

#include <stdbool.h>

#define MUTATIONS(X)                                                                            \
	X(no_prevote, "", "1", "candidates ask for votes at once")                                  \
	X(no_grant_wait, "", "1", "a voter votes although another's grant runs")                    \
	X(own_record_only, "", "2", "a candidate reads only its own record")                        \
	X(claim_drops, "", "3", "a claim drops the rest of the eligible set")                       \
	X(store_ignores_promise, "", "4", "STORE is accepted below the promise")                    \
	X(short_grant, "", "4", "a grant lasts V instead of G")                                     \
	X(lease_from_reply, "", "5", "the lease counts from the answer")                            \
	X(no_margin, "", "5", "V without margin and stop budget")                                   \
	X(keep_renewing, "", "5", "a lost lease keeps renewing")                                    \
	X(no_reterm, "", "6", "a refused holder does nothing")                                      \
	X(reterm_only_higher, "", "6", "an equal term is no reason to re-term")                     \
	X(alone_before_chosen, "", "7", "alone when the STORE was sent")                            \
	X(lone_timeout_no_record, "", "7", "the gate goes alone by time-out")                       \
	X(outdate_path, "", "7", "alone because the standby marked itself outdated")                \
	X(name_before_wait, "", "8", "the standby is named before the gate waits")                  \
	X(name_before_caughtup, "", "8", "the standby is named before it holds X")                  \
	X(abandon_naming, "-l 5 -S 1 -M .1 -H .5", "8", "an unanswered naming is given up")         \
	X(gate_ignores_lease, "", "9", "the gate moves without a lease")                            \
	X(gate_nonatomic, "", "9", "the gate checks in one section, moves in another")              \
	X(gate_any_copy, "-o third", "9, 16", "answers of any copy count")                          \
	X(open_at_once, "", "10", "clients come in at once")                                        \
	X(no_self_kill, "", "11", "the extension does not stop its postmaster")                     \
	X(stepdown_clears_deadline, "", "11", "stepping down clears the deadline")                  \
	X(no_promote_retry, "", "12", "a promotion that met a re-term is not tried again")          \
	X(resume_trusts_own, "", "13", "a restarted tandemd trusts its own record")                 \
	X(resume_stepped_down, "", "13", "a restarted tandemd resumes a term it gave up")           \
	X(handover_before_stop, "", "14", "RELEASE before PostgreSQL is dead")                      \
	X(release_not_durable, "", "14", "RELEASE before stepping down is durable")                 \
	X(release_any_term, "", "14", "a late RELEASE clears the grant of a later term")            \
	X(ack_before_flush, "", "15", "the standby acknowledges before its flush")                  \
	X(old_term_frames, "-o third", "15", "frames below the promise are taken")                  \
	X(old_session_ok, "", "15", "frames of an older connection are taken")                      \
	X(no_incarnation, "", "15", "histories are not compared")                                   \
	X(hist_one_sided, "", "15", "only the primary's history is looked at")                      \
	X(hist_first_only, "-o third", "15", "only the first start after the common prefix")        \
	X(keep_ahead, "", "15", "what is beyond the divergence is kept")                            \
	X(stale_resume_point, "", "15", "an older answer truncates")                                \
	X(rewind_keeps_copy, "", "16", "a rewind keeps the copy id")                                \
	X(no_restart_wait, "", "17", "a restarted voter votes at once")                             \
	X(amnesia, "", "17", "a voter without its state votes at once")                             \
	X(readmit_pair, "-o two", "17", "one of two voters with a fence comes back by itself")      \
	X(no_fsync_voter, "", "State", "a voter answers without writing")                           \
	X(reply_before_persist, "", "State", "a voter answers before it has written")               \
	X(fence_is_vote_3, "-o fence", "18", "with three voters a fence counts as a vote")          \
	X(fence_any_boot, "-o fence", "18", "a fence ends the grant of a newer boot")               \
	X(no_wait_for_all, "-o two", "19", "a fence counts without contact")                        \
	X(stale_fence_ok, "-o two", "19", "a fence counts although a newer boot was seen")          \
	X(sole_without_chosen, "-o two", "19", "an own record without a peer counts unchosen")      \
	X(contact_without_record, "-o two", "19", "any contact counts")                             \
	X(contact_of_any, "-o two,third", "19", "contact with a node that does not vote counts")    \
	X(continue_unpersisted, "-o two,continue", "20", "continue without an own durable record")  \
	X(override_no_jump, "", "21", "the override takes the next term")                           \
	X(sole_in_dr, "-o dr,two", "19, 22", "an own record without a peer counts with profile dr") \
	X(async_bound, "-o third", "22", "an asynchronous standby applies what is not released")    \
	X(vip_forever, "", "DESIGN 9", "the VIP has no lifetime")

enum
{
#define X(name, mode, rule, what) MUTATION_##name,
	MUTATIONS(X)
#undef X
		MUTATION_COUNT
};

extern bool mutation[MUTATION_COUNT];

#define MUT(name) (mutation[MUTATION_##name])

#endif /* SIM_MUTATIONS_H */
