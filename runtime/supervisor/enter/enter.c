// See enter.go for what this does and why it is safe.
//
// Between clone3 and execve only system calls are made, on memory that was ready before: the process is a copy of one
// thread of a program with many, and what the others held (locks of the allocator, Go's scheduler) is held for ever.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enter.h"

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* struct clone_args as Linux 5.7 has it. */
struct clone3_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#define STAGES(X) \
	X(socket) X(clone) X(oom_score_adj) X(dumpable) X(stdio) X(cgroup) X(rlimit) X(namespace_path) X(namespaces) \
	X(user_namespace) X(close) X(second_clone) X(session) X(root) X(keyring) X(no_new_privs) X(filter) X(chdir) X(bounding) \
	X(keepcaps) X(owner) X(groups) X(gid) X(uid) X(cwd) X(capabilities) X(ambient) X(program) X(execve) X(died)

enum stage {
	AT_none,
#define X(name) AT_##name,
	STAGES(X)
#undef X
	AT_count
};

const char *enter_stage(int stage)
{
	static const char *const names[] = {
		"",
#define X(name) #name,
		STAGES(X)
#undef X
	};
	return stage > 0 && stage < AT_count ? names[stage] : "";
}

/* Constructors run before Go's runtime, which raises the soft limit for itself and gives its children the old one. */
static struct enter_rlimit nofile;

__attribute__((constructor)) static void remember_nofile(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		nofile.resource = RLIMIT_NOFILE;
		nofile.soft = l.rlim_cur;
		nofile.hard = l.rlim_max;
	}
}

struct enter_rlimit enter_nofile(void)
{
	return nofile;
}

/* The processes talk to the caller over a socket, because it tells who speaks, in the caller's pid namespace
 * (SCM_CREDENTIALS): the second process's number is known with its first word, whatever became of the first process. */
enum { SAYS_ready = 1, SAYS_failure };	/* ready: all is done but the last filter and execve */

struct message {
	int says, stage, error;
};

#define SOCKET 3		/* the socket's number in the children */

static int say(int fd, int says, int stage, int error)
{
	struct message m = { says, stage, error };
	ssize_t n;
	while ((n = write(fd, &m, sizeof m)) < 0 && errno == EINTR) ;
	return n == sizeof m ? 0 : -1;
}

static _Noreturn void fail(int fd, enum stage stage)
{
	say(fd, SAYS_failure, stage, errno);
	_exit(255);
}

static pid_t clone_process(uint64_t flags, uint64_t exit_signal, int cgroup)
{
	struct clone3_args a = { .flags = flags, .exit_signal = exit_signal };
	if (cgroup >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = cgroup;
	}
	return syscall(SYS_clone3, &a, sizeof a);
}

static int write_all(int fd, const char *text)
{
	size_t length = strlen(text);
	ssize_t n;
	while ((n = write(fd, text, length)) < 0 && errno == EINTR) ;
	return n == (ssize_t) length ? 0 : -1;
}

/* take_stdio puts the standard streams at 0 to 2 and the socket at 3; what is there already is out of the way first. */
static void take_stdio(const struct enter_request *r, int socket)
{
	int fds[4] = { r->stdio[0], r->stdio[1], r->stdio[2], socket };
	for (int i = 0; i < 4; i++)
		if (fds[i] <= SOCKET && (fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, SOCKET + 1)) < 0)
			fail(socket, AT_stdio);
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			fail(socket, AT_stdio);
	if (dup3(fds[3], SOCKET, O_CLOEXEC) < 0)
		fail(socket, AT_stdio);
}

static void join(const struct enter_request *r)
{
	/* As nsexec does: the user namespace last, because others may belong to another one. */
	for (int i = 0; i < r->path_count; i++)
		if (setns(r->paths[i], 0) < 0)
			fail(SOCKET, AT_namespace_path);
	if (r->namespaces && setns(r->pidfd, r->namespaces) < 0)
		fail(SOCKET, AT_namespaces);
	if (r->user_namespace && setns(r->pidfd, CLONE_NEWUSER) < 0)
		fail(SOCKET, AT_user_namespace);
}

static void load_filter(const struct enter_request *r)
{
	struct sock_fprog p = { .len = r->filter_length, .filter = (struct sock_filter *)r->filter };
	if (r->filter && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, r->filter_flags, &p) != 0)
		fail(SOCKET, AT_filter);
}

static void own_stdio(const struct enter_request *r)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		if (fstat(fd, &st) < 0)
			fail(SOCKET, AT_owner);
		int null = S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
		if (st.st_uid == r->uid || null)
			continue;
		if (fchown(fd, r->uid, -1) < 0 && errno != EPERM && errno != EROFS)
			fail(SOCKET, AT_owner);
	}
}

static void drop_bounding(const struct enter_request *r)
{
	for (int c = 0; c <= r->last_cap; c++)
		if (!(r->bounding >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			fail(SOCKET, AT_bounding);
}

static void set_capabilities(const struct enter_request *r)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	for (int i = 0; i < 2; i++) {
		data[i].effective = r->effective >> 32 * i;
		data[i].permitted = r->permitted >> 32 * i;
		data[i].inheritable = r->inheritable >> 32 * i;
	}
	if (syscall(SYS_capset, &head, data) < 0)
		fail(SOCKET, AT_capabilities);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		fail(SOCKET, AT_ambient);
	for (int c = 0; c <= r->last_cap; c++)
		if (r->ambient >> c & 1)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0);	/* libcontainer goes on too */
}

/* Go's libraries make the system calls below directly; glibc's set*id would try to reach threads that are not here. */
static void become_user(const struct enter_request *r, const char *cwd)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		fail(SOCKET, AT_keepcaps);
	own_stdio(r);
	if (syscall(SYS_setgroups, r->group_count, r->groups) < 0)
		fail(SOCKET, AT_groups);
	if (syscall(SYS_setgid, r->gid) < 0)
		fail(SOCKET, AT_gid);
	if (syscall(SYS_setuid, r->uid) < 0)
		fail(SOCKET, AT_uid);
	if (cwd && chdir(cwd) < 0)
		fail(SOCKET, AT_chdir);
	/* CVE-2024-21626: the kernel begins the name of a directory outside of the root with "(unreachable)". */
	char name[4096];
	if (syscall(SYS_getcwd, name, sizeof name) < 0 || name[0] != '/')
		fail(SOCKET, AT_cwd);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		fail(SOCKET, AT_keepcaps);
	set_capabilities(r);
}

/* find is os/exec's LookPath, of paths that were joined before. */
static const char *find(const struct enter_request *r)
{
	for (char **p = r->programs; *p; p++) {
		struct stat st;
		if (stat(*p, &st) < 0 || S_ISDIR(st.st_mode))
			continue;
		if (syscall(SYS_faccessat2, AT_FDCWD, *p, X_OK, AT_EACCESS) == 0)
			return *p;
		if ((errno == ENOSYS || errno == EPERM) && (st.st_mode & 0111))
			return *p;
	}
	errno = ENOENT;
	fail(SOCKET, AT_program);
}

/* The second process becomes the program. The order is that of libcontainer's setns init. */
static int become_program(void *arg)
{
	const struct enter_request *r = arg;
	if (setsid() < 0)
		fail(SOCKET, AT_session);
	if (syscall(SYS_setuid, 0) < 0 || syscall(SYS_setgid, 0) < 0)
		fail(SOCKET, AT_root);
	if (r->keyring && syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, r->keyring) < 0 && errno != ENOSYS)
		fail(SOCKET, AT_keyring);
	if (r->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(SOCKET, AT_no_new_privs);
	if (r->umask >= 0)
		umask(r->umask);
	if (!r->no_new_privs)	/* needs CAP_SYS_ADMIN then */
		load_filter(r);
	const char *cwd = r->cwd;
	if (chdir(cwd) == 0)
		cwd = NULL;
	else if (errno != EACCES && errno != EPERM)
		fail(SOCKET, AT_chdir);
	drop_bounding(r);
	become_user(r, cwd);
	const char *program = find(r);
	if (say(SOCKET, SAYS_ready, 0, 0) < 0)
		_exit(255);	/* by a filter that does not let it: what nobody knows of must not run */
	if (r->no_new_privs)
		load_filter(r);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(program, r->argv, r->envp);
	fail(SOCKET, AT_execve);
}

/* The first process goes into the cgroups and the namespaces, and has a child there: a pid namespace is only ever
 * entered by children. */
static _Noreturn void go_there(const struct enter_request *r, int socket)
{
	if (r->oom_score_adj) {	/* not writable when not dumpable */
		int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write_all(fd, r->oom_score_adj) < 0)
			fail(socket, AT_oom_score_adj);
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		fail(socket, AT_dumpable);
	for (int i = 0; i < r->proc_count; i++)
		if (write_all(r->procs[i], "0") < 0)
			fail(socket, AT_cgroup);
	/* All processors that the cgroup allows, also ones that are plugged in later. */
	static const unsigned long all[1024] = {[0 ... 1023] = ~0UL };
	syscall(SYS_sched_setaffinity, 0, sizeof all, all);
	for (int i = 0; i < r->rlimit_count; i++) {
		uint64_t l[2] = { r->rlimits[i].soft, r->rlimits[i].hard };	/* struct rlimit64 */
		if (syscall(SYS_prlimit64, 0, r->rlimits[i].resource, l, NULL) < 0)
			fail(socket, AT_rlimit);
	}
	/* From here on the socket is SOCKET; the descriptors of the namespaces are used first, and must not be in the way. */
	take_stdio(r, socket);
	join(r);
	/* CVE-2024-21626, CVE-2016-9962: nothing of the host is open in the namespaces but this. */
	if (syscall(SYS_close_range, SOCKET + 1, ~0U, 0) < 0)
		fail(SOCKET, AT_close);
	/* The second borrows the memory of the first, which nobody else has, until execve or its end. */
	static char stack[64 << 10] __attribute__((aligned(16)));
	if (clone(become_program, stack + sizeof stack, CLONE_PARENT | CLONE_VM | CLONE_VFORK, (void *)r) < 0)
		fail(SOCKET, AT_second_clone);
	_exit(0);
}

static void wait_for(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) ;
}

/* hear takes one message and who has said it; 0 when there will be no more. */
static int hear(int fd, struct message *m, pid_t *who)
{
	char control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec v = { m, sizeof *m };
	struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	ssize_t n;
	while ((n = recvmsg(fd, &h, 0)) < 0 && errno == EINTR) ;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (n != sizeof *m || !c || c->cmsg_type != SCM_CREDENTIALS)
		return 0;
	struct ucred from;
	memcpy(&from, CMSG_DATA(c), sizeof from);
	*who = from.pid;
	return 1;
}

static void listen_to(int fd, pid_t first, struct enter_result *result)
{
	struct message m;
	pid_t who;
	int ready = 0;
	while (hear(fd, &m, &who)) {
		if (who != first)
			result->pid = who;
		if (m.says == SAYS_ready)
			ready = 1;
		else {
			result->stage = m.stage;
			result->error = m.error;
		}
	}
	if (!result->stage && !ready)
		result->stage = AT_died;	/* killed, for lack of memory or by somebody */
}

void enter(const struct enter_request *r, struct enter_result *result)
{
	int pair[2], one = 1;
	sigset_t all, before;

	memset(result, 0, sizeof *result);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		result->stage = AT_socket;
		result->error = errno;
		return;
	}
	setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);	/* without it nothing is heard, and that is an error */
	/* No handler of Go runs in the copy; CLONE_CLEAR_SIGHAND (Linux 5.5) then takes them away. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = clone_process(CLONE_CLEAR_SIGHAND, SIGCHLD, r->cgroup);
	if (pid == 0)
		go_there(r, pair[1]);
	int error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(pair[1]);
	if (pid < 0) {
		result->stage = AT_clone;
		result->error = error;
	} else {
		listen_to(pair[0], pid, result);
		wait_for(pid);
		if (result->stage && result->pid)
			wait_for(result->pid);
	}
	close(pair[0]);
}
