#ifndef ENTER_H
#define ENTER_H

#include <stdint.h>

struct enter_rlimit {
	int resource;
	uint64_t soft, hard;
};

/* enter_request is what a process shall be. Every pointer is to C memory. Strings end with a zero byte, lists of strings
 * with a null pointer. */
struct enter_request {
	int pidfd;		/* of a process in the namespaces */
	int namespaces;		/* CLONE_NEW* to take from it, without CLONE_NEWUSER */
	int user_namespace;	/* whether to take that too */
	int *paths;		/* namespaces that come as descriptors instead, and how many */
	int path_count;
	int cgroup;		/* directory of a cgroup v2 to be cloned into; -1: none */
	int *procs;		/* cgroup.procs files to be written, and how many */
	int proc_count;
	int stdio[3];		/* all given */
	const char *oom_score_adj;	/* null: inherited */
	struct enter_rlimit *rlimits;
	int rlimit_count;
	const char *keyring;	/* null: the session keyring is inherited */
	int no_new_privs;
	int umask;		/* -1: inherited */
	const char *cwd;
	uint32_t uid, gid;
	uint32_t *groups;
	int group_count;
	uint64_t bounding, effective, permitted, inheritable, ambient;
	int last_cap;
	const void *filter;	/* struct sock_filter; null: none */
	int filter_length;	/* instructions */
	unsigned int filter_flags;
	char **programs;	/* absolute paths to try, or one relative to cwd */
	char **argv;
	char **envp;
};

/* enter_result says where it ended. */
struct enter_result {
	int stage;		/* ENTER_* of enter.c's table; 0: the program runs */
	int error;		/* errno */
	int pid;		/* of the program, in the caller's pid namespace */
};

/* enter starts the process, as a child of the caller. It returns when the program runs, or when nothing is left. */
void enter(const struct enter_request *r, struct enter_result *result);

/* enter_stage names a stage. */
const char *enter_stage(int stage);

/* enter_nofile is RLIMIT_NOFILE as it was before Go raised the soft one. */
struct enter_rlimit enter_nofile(void);

#endif
